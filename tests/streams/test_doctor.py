"""The doctor's findings about this machine and about topics, each with its cure."""

import os
import shutil
import time
from pathlib import Path

import pytest

from streams import doctor
from streams.doctor import in_words, one_line, python, room, snapshot_age, topics_of
from streams.inventory import TopicState
from streams.plan import Plan, compile_plan, load
from streams.signatures import PipelineError


@pytest.mark.parametrize(
    ("found", "outcome"),
    [((3, 10), "fail"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "fail"), ((4, 0), "fail")],
)
def test_python_must_be_one_that_is_tested(found: tuple[int, int], outcome: str) -> None:
    finding = python(found)

    assert finding.outcome == outcome
    assert outcome == "ok" or "3.11 to 3.13" in finding.cure


@pytest.mark.parametrize(
    ("free_gib", "outcome"), [(0.5, "fail"), (2.0, "warn"), (50.0, "ok")], ids=["full", "little", "much"]
)
def test_room_on_the_disk(
    free_gib: float, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=int(free_gib * doctor.GIB))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)

    finding = room("state", tmp_path / "not" / "there" / "yet")

    assert finding.outcome == outcome
    assert f"{free_gib} GiB free for state" in finding.about


def test_the_pins_are_told() -> None:
    finding = doctor.pins()

    assert finding.outcome == "ok"
    assert "aiokafka 0.14.0" in finding.about


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_plan(load(Path(__file__).parents[2] / "examples" / "tickets.py"))


def state(role: str, partitions: int) -> TopicState:
    return TopicState(f"p.{role}", role, "", "", "", partitions, [0] * partitions, [0] * partitions, "")


@pytest.mark.parametrize(
    ("counts", "outcome", "said"),
    [
        ({"raw": 3, "events": 4, "actions": 4}, "ok", "3 of tickets, 4 partitions"),
        ({"raw": 4, "events": 4, "actions": 0}, "fail", "1 of 3 are missing: p.actions"),
        ({"raw": 4, "events": 4, "actions": 1}, "fail", "p.actions has 1 partitions"),
    ],
    ids=["well", "missing", "uneven"],
)
def test_topics(counts: dict[str, int], outcome: str, said: str, plan: Plan) -> None:
    (finding,) = topics_of(plan, [state(role, count) for role, count in counts.items()])

    assert finding.outcome == outcome
    assert said in finding.about
    assert outcome == "ok" or finding.cure


def test_a_snapshot_grows_old(tmp_path: Path) -> None:
    file = tmp_path / "tickets.duckdb"
    assert snapshot_age(file).outcome == "warn"
    file.touch()
    assert snapshot_age(file).outcome == "ok"
    old = time.time() - 3 * 86_400
    os.utime(file, (old, old))

    finding = snapshot_age(file)

    assert (finding.outcome, finding.cure) == ("warn", "midstream snapshot PIPELINE")
    assert "3 d old" in finding.about


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59, "59 s"), (60, "1 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_an_error_is_said_as_a_command_would_say_it() -> None:
    assert one_line(PipelineError("a\nb")) == "a b"
    assert one_line(ValueError("a\nb")) == "ValueError: a b"
