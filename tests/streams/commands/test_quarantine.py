"""`midstream quarantine` on a running pipeline: what was refused is shown safely, and goes back by its own way."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streams.memory import happened
from streams.settings import KafkaSettings
from tests.support.desk import OPENED, Desk

pytestmark = pytest.mark.broker


def refused(desk: Desk, key: str) -> str:
    """The id of the record with that Kafka key that was refused first."""
    listed = desk.told("quarantine", "list", "--limit", "0")["records"]
    return str(next(record["id"] for record in listed if record["key"] == key))


def test_the_list_counts_by_reason(desk: Desk) -> None:
    told = desk.told("quarantine", "list", "--limit", "1")
    run = desk.run("quarantine", "list", "--reason", "unknown_type")

    assert {"wrong_type", "wrong_encoding", "unknown_type"} <= told["by_reason"].keys()
    assert len(told["records"]) == 1
    assert told["count"] >= 3
    assert "'ticket.lost' is not a type of this pipeline" in run.stdout
    assert "1  unknown_type" in run.stdout
    assert "wrong_type" not in run.stdout


def test_show_says_why_where_and_what(desk: Desk) -> None:
    run = desk.run("quarantine", "show", refused(desk, "mend"))

    assert run.returncode == 0, run.stderr
    for line in (
        "  field    ticket_id",
        f"  from     {desk.name}.raw, partition ",
        "  key      mend",
        "  header   ce_id: mend-1",
        "16 bytes, UTF-8; --raw writes them as they are",
        '    {"ticket_id": 7}',
    ):
        assert line in run.stdout


def test_bytes_are_shown_so_that_a_terminal_obeys_none(desk: Desk) -> None:
    id = refused(desk, "bytes")
    shown = desk.run("quarantine", "show", id)
    raw = subprocess.run(
        desk.command("quarantine", "show", id, "--raw"),
        cwd=desk.folder,
        env=desk.environment,
        capture_output=True,
        check=False,
    )

    assert "first 2000 of 3500 bytes, hexadecimal: not UTF-8" in shown.stdout
    assert "\x1b" not in shown.stdout
    assert raw.stdout == b"\xff\x00\x1b[31m" * 500


def test_an_unknown_record_is_code_1(desk: Desk) -> None:
    for verb in ("show", "redrive"):
        run = desk.run("quarantine", verb, "qua_none")

        assert (run.returncode, run.stdout) == (1, "")
        assert "qua_none: no such record" in run.stderr


def test_what_is_mended_by_another_body_is_accepted(desk: Desk) -> None:
    id = refused(desk, "mend")
    body = desk.folder / "body.json"
    body.write_text('{"ticket_id": "mended", "customer_id": "dell", "subject": "s", "severity": "low"}')

    sent = desk.told("quarantine", "redrive", id, "--body", str(body))

    assert [record["id"] for record in sent["sent"]] == [id]
    told = desk.until(("explain", "mend-1"), lambda found: found["changes"], "the mended event")
    assert told["raw"][0]["headers"]["ms_redriven"] == id
    assert told["changes"][0]["key"] == "mended"
    # Once more: the owner has seen the id, and nothing changes.
    desk.told("quarantine", "redrive", id, "--body", str(body))
    told = desk.until(
        ("explain", "mend-1"),
        lambda found: any(event["repeated"] for event in found["events"]),
        "a duplicate",
    )
    assert len(told["changes"]) == 1


def test_what_is_refused_again_stands_back_for_its_successor(desk: Desk) -> None:
    id = refused(desk, "unknown")
    count = desk.told("quarantine", "list", "--reason", "unknown_type")["count"]

    sent = desk.told("quarantine", "redrive", "--all", "--reason", "unknown_type")

    assert [record["id"] for record in sent["sent"]] == [id]
    told = desk.until(
        ("quarantine", "list", "--reason", "unknown_type"),
        lambda found: found["count"] == count + 1,
        "it again",
    )
    first, second = told["records"][-2:]
    assert (first["id"], first["refused_again"]) == (id, second["id"])
    assert second["redriven_from"] == id
    # Only the newer of the two goes the next time.
    sent = desk.told("quarantine", "redrive", "--all", "--reason", "unknown_type")
    assert [record["id"] for record in sent["sent"]] == [second["id"]]


@pytest.mark.parametrize(
    "words",
    [[], ["qua_1", "--all"], ["--all", "--body", "x"], ["qua_1", "--reason", "not_json"]],
    ids=" ".join,
)
def test_it_must_be_clear_what_goes_back(desk: Desk, words: list[str]) -> None:
    run = desk.run("quarantine", "redrive", *words)

    assert run.returncode == 1
    assert "name one id" in run.stderr


FRAGILE = """
from streams import Event, Pipeline, State

fragile = Pipeline("fragile", version=1)

class Moved(Event, type="moved"):
    box: str
    room: str

class Box(State):
    room: str | None = None

class Room(State):
    box: str | None = None

box = fragile.entity("box", Box, key="box")
room = fragile.entity("room", Room, key="room")

@box.on(Moved)
def moved(state: Box, event: Moved) -> Box:
    return state.evolve(room=event.room)

@room.on(Moved)
def entered(state: Room, event: Moved) -> Room:
    return state.evolve(box=event.bix)
"""


@pytest.mark.slow
def test_a_copy_that_failed_goes_back_to_the_entity_that_failed_and_once(
    broker: KafkaSettings, tmp_path: Path
) -> None:
    desk = Desk(broker, tmp_path, FRAGILE, "fragile")
    assert desk.run("topics", "create", "--partitions", "2").returncode == 0
    desk.start()
    try:
        event = desk.models.Moved(box="b1", room="r1")
        desk.send([happened(event, datetime.now(UTC) - OPENED, "m1")])
        listed = desk.until(("quarantine", "list"), lambda found: found["count"] == 1, "the failure")
        assert desk.stop() == 0
        (failed,) = listed["records"]
        assert (failed["reason"], failed["topic"]) == ("reducer_failed", f"{desk.name}.events")
        # The author mends the function; the record goes back to the room alone.
        desk.file.write_text(desk.file.read_text().replace("event.bix", "event.box"))
        desk.start()
        left = desk.run("quarantine", "redrive", "--all")
        sent = desk.run("quarantine", "redrive", failed["id"])
        told = desk.until(
            ("explain", "m1"),
            lambda found: {change["entity"] for change in found["changes"]} == {"box", "room"},
            "the copy",
        )
        again = desk.run("quarantine", "redrive", failed["id"])
    finally:
        desk.stop()

    assert left.returncode == 1
    assert "redrive it by its id" in left.stderr
    assert sent.returncode == 0, sent.stderr
    assert f"{desk.name}.events" in sent.stdout
    assert len(told["changes"]) == 2
    assert again.returncode == 1
    assert "has been redriven before" in again.stderr


def test_commands_run_from_any_folder(desk: Desk, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "streams.cli", "quarantine", "list", str(desk.file)],
        cwd=tmp_path,
        env=desk.environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
