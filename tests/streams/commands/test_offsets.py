"""`midstream offsets`: where the lanes go on. What it does after a loss: tests/broker/test_lost_data.py."""

from __future__ import annotations

import pytest

from streams.commands.offsets import goal, line
from streams.offsets import Move, OffsetsError
from tests.support.desk import Desk

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_show_names_every_source_partition_and_is_content(desk: Desk) -> None:
    done = desk.run("offsets", "show")
    assert done.returncode == 0, done.stderr
    heading, *rows = [row.split() for row in done.stdout.splitlines()]
    assert heading == ["partition", "next", "first", "end"]
    assert [row[0] for row in rows] == [
        f"{role}:{number}" for role in ("raw", "events") for number in range(3)
    ]
    told = desk.told("offsets", "show")
    assert {position["trouble"] for position in told} == {""}
    assert all(position["committed"] <= position["last"] for position in told if position["committed"])
    # In the same transaction as the rows: with how many partitions, and how far the changelogs had come.
    assert all(position["metadata"].startswith("partitions=3") for position in told if position["committed"])
    assert any("heads=" in position["metadata"] for position in told if position["role"] == "events")


def test_nothing_is_reset_while_a_worker_runs(desk: Desk) -> None:
    done = desk.run("offsets", "reset", "--to", "earliest", "--partition", "raw:0", "--yes")
    assert (done.returncode, done.stdout) == (1, "")
    assert "1 workers run. Stop all of them first" in done.stderr


def test_a_goal_is_a_word_or_an_offset() -> None:
    assert [goal("earliest"), goal("keep"), goal("120")] == ["earliest", "keep", 120]
    with pytest.raises(OffsetsError, match="--to latest: expected earliest, keep or an offset"):
        goal("latest")


def test_a_move_is_told_in_a_line() -> None:
    assert line(Move("raw:0", 5, 9, "")) == "raw:0  5 → 9"
    assert line(Move("raw:0", None, 9, "")) == "raw:0  - → 9"
    assert line(Move("events:1", 5, 5, "")) == "events:1  stays at 5, with the changelogs as they are"
