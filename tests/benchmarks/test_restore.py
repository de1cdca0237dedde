"""benchmarks/restore.py: small runs on a real broker; what it counts is what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import restore
from benchmarks.restore import ROW_BYTES, draw, faust, kills, ours, row
from streams.settings import KafkaSettings

pytestmark = [pytest.mark.broker, pytest.mark.slow]


def test_rows_are_of_their_size() -> None:
    assert {len(row(number)) for number in (0, 7, 999_999)} == {ROW_BYTES}


def test_both_questions_are_drawn(tmp_path: Path) -> None:
    figures = {
        "rows_per_s": 300_000,
        "faust_rows_per_s": 7000,
        "kill_to_output_s": 2.5,
        "kill_to_output_dynamic_s": 12.0,
    }
    draw(figures, tmp_path)
    assert ">7,000<" in (tmp_path / "restore.svg").read_text()
    assert ">2.5<" in (tmp_path / "kill-to-output.svg").read_text()


def test_a_peer_that_hangs_is_missing_and_not_the_end_of_the_run(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Too short for any start.
    monkeypatch.setattr(restore, "WITHIN_S", 0.1)
    run, missing = restore.peer(kafka, 10, tmp_path)
    assert (run, missing) == (None, {"faust": "it had not recovered its table after 0 s"})


def test_every_row_is_restored(kafka: KafkaSettings, tmp_path: Path) -> None:
    (run,) = ours(kafka, 5000, 1, tmp_path)
    assert run["records"] == 5000
    assert run["seconds"] > 0


def test_stock_faust_recovers_its_table(kafka: KafkaSettings, tmp_path: Path) -> None:
    run = faust(kafka, 3000, tmp_path)
    # All but the first batch, with which its clock begins.
    assert run["records"] == 2000
    assert run["seconds"] > 0


@pytest.mark.chaos
def test_a_killed_worker_is_back(kafka: KafkaSettings, tmp_path: Path) -> None:
    (seconds,) = kills(kafka, True, 1, tmp_path / "static")
    assert 0 < seconds < 30
