"""`midstream snapshot` as a person runs it: what it prints, how it ends, and the file that is there afterwards."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic_core import to_json

from schemas.record import Given
from streams.exits import EXIT_MISTAKE, EXIT_UNAVAILABLE
from streams.settings import KafkaSettings
from tests.support.shop import shop
from tests.support.topics import publish
from tests.support.workers import create, unique

ROOT = Path(__file__).parents[3]


@dataclass
class Desk:
    """A folder with a pipeline file, where somebody types commands."""

    folder: Path
    name: str
    bootstrap: str

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`midstream snapshot` in a process of its own."""
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "KAFKA_BOOTSTRAP": self.bootstrap,
            "MIDSTREAM_HOME": str(self.folder / "home"),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "streams.cli", "snapshot", *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=90)
        return process.returncode, out, err

    def ask(self, query: str, file: str = "") -> list[tuple[Any, ...]]:
        """What the file says."""
        with duckdb.connect(str(self.folder / (file or f"{self.name}.duckdb")), read_only=True) as db:
            return db.execute(query).fetchall()


def desk(folder: Path, name: str, bootstrap: str) -> Desk:
    (folder / "shop.py").write_text(f"from tests.support.shop import shop\n\npipeline = shop({name!r})\n")
    return Desk(folder, name, bootstrap)


@pytest.fixture
async def shelf(kafka: KafkaSettings, tmp_path: Path) -> Desk:
    """A pipeline with topics, and two decisions in them."""
    made = desk(tmp_path, unique("shelf"), str(kafka.bootstrap))
    await create(kafka, shop(made.name))
    decide(kafka, made, "d1", "d2")
    return made


def decide(kafka: KafkaSettings, at: Desk, *names: str) -> None:
    """Append decisions; only what the table requires."""
    write(kafka, at, *(to_json({"decision_id": name, "decision": "refund"}) for name in names))


def write(kafka: KafkaSettings, at: Desk, *bodies: bytes) -> None:
    """Append records to `decisions`."""
    publish(kafka, f"{at.name}.decisions", [Given("", 0, 0, 0, b"order:a", body) for body in bodies])


@pytest.mark.broker
def test_one_run_says_what_there_is_and_the_next_what_is_new(shelf: Desk, kafka: KafkaSettings) -> None:
    code, out, err = shelf.run("shop.py")
    assert (code, err) == (0, "")
    first, *tables = out.splitlines()
    assert first.startswith(f"{shelf.name}.duckdb: everything committed until 20")
    assert ", 2 new records in " in first
    assert [line.split() for line in tables] == [
        *(["0", "order"], ["0", "customer"], ["0", "changes"], ["2", "decisions"], ["0", "actions"]),
        *(["0", "reviews"], ["0", "quarantine"], ["0", "audit"]),
    ]
    decide(kafka, shelf, "d3")
    assert ", 1 new records in " in shelf.run("shop.py")[1]
    assert shelf.ask("SELECT decision_id FROM decisions ORDER BY 1") == [("d1",), ("d2",), ("d3",)]


@pytest.mark.broker
def test_json_is_one_object_and_the_file_goes_where_it_is_told(shelf: Desk) -> None:
    code, out, err = shelf.run("shop.py", "--json", "--out", "other.duckdb")
    assert (code, err) == (0, "")
    told = json.loads(out)
    assert (told["file"], told["published"], told["records"], told["notes"]) == ("other.duckdb", True, 2, [])
    assert told["rows"]["decisions"] == 2
    assert shelf.ask("SELECT any_value(cluster_id) FROM _offsets", "other.duckdb") == [(told["cluster_id"],)]
    assert not (shelf.folder / f"{shelf.name}.duckdb").exists()


@pytest.mark.broker
def test_parquet_stands_beside_the_file(shelf: Desk) -> None:
    code, _, err = shelf.run("shop.py", "--parquet", "lake")
    assert code == 0, err
    assert "lake: " in err
    assert " tables as Parquet" in err
    with duckdb.connect() as db:
        query = f"SELECT count(*) FROM read_parquet('{shelf.folder}/lake/decisions/**/*.parquet')"
        assert db.execute(query).fetchall() == [(2,)]
    code, out, err = shelf.run("shop.py", "--parquet", "lake", "--follow")
    assert (code, out) == (1, "")
    assert "--parquet is of one snapshot: run it without --follow" in err


@pytest.mark.broker
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_ends_cleanly_when_it_is_told_to(
    shelf: Desk, kafka: KafkaSettings, number: signal.Signals
) -> None:
    process = shelf.start("shop.py", "--follow", "--every", "0.1", "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["records"] == 2
    decide(kafka, shelf, "d3")
    while not json.loads(process.stdout.readline())["published"]:
        pass
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert err.splitlines()[-1] == f"ended; {shelf.name}.duckdb stays as it was published last"
    assert "Traceback" not in err
    assert shelf.ask("SELECT count(*) FROM decisions") == [(3,)]
    files = {path.name for path in shelf.folder.iterdir() if path.name.startswith(shelf.name)}
    assert files == {f"{shelf.name}.duckdb", f"{shelf.name}.duckdb.work"}


@pytest.mark.broker
def test_records_of_somebody_else_are_mentioned(shelf: Desk, kafka: KafkaSettings) -> None:
    write(kafka, shelf, b"not one of ours")
    code, out, _ = shelf.run("shop.py")
    assert code == 0
    assert out.splitlines()[-1].startswith("_unreadable holds records that fit no table")


@pytest.mark.broker
def test_a_file_that_cannot_be_used_is_told_in_one_line(shelf: Desk) -> None:
    code, out, err = shelf.run("shop.py", "--out", "nowhere/x.duckdb")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "cannot open nowhere/x.duckdb.work" in err


@pytest.mark.broker
def test_missing_topics_are_a_mistake(kafka: KafkaSettings, tmp_path: Path) -> None:
    code, _, err = desk(tmp_path, unique("absent"), str(kafka.bootstrap)).run("shop.py")
    assert code == EXIT_MISTAKE
    assert "no topic absent-" in err


def test_no_kafka_is_told_in_one_line(tmp_path: Path) -> None:
    code, out, err = desk(tmp_path, "nobody", "127.0.0.1:1").run("shop.py")
    assert (code, out, err.count("\n")) == (EXIT_UNAVAILABLE, "", 1)
    assert "Kafka" in err


def test_an_interval_must_be_positive(tmp_path: Path) -> None:
    code, _, err = desk(tmp_path, "nobody", "127.0.0.1:1").run("shop.py", "--follow", "--every", "0")
    assert code == 2
    assert "--every" in err
