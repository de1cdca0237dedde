"""The checker finds what is wrong: bugs planted into workers, each shown by the fault that it does not survive."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.settings import KafkaSettings
from tests.chaos.brokers import Shared
from tests.chaos.checker import Findings
from tests.chaos.episode import Episode, Fault, play
from tests.chaos.faults import frozen

pytestmark = [
    pytest.mark.broker,
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("brokers"),
]


def killed_between(point: str) -> Fault:
    """Killed at a point where an honest worker loses nothing."""

    def fault(episode: Episode) -> None:
        crew = episode.crew
        crew.start("one")
        # Every lane has a committed offset by then.
        episode.progress(200)
        crew.stop()
        crew.start("one", failpoint=(point, 12, "kill"))
        ended = crew.wait_end("one", 60)
        assert ended is not None
        assert ended.line.startswith("failpoint: ")
        episode.struck()
        crew.start("one")
        episode.progress(50)

    return fault


def played(kafka: KafkaSettings, home: Path, fault: Fault, plant: str = "") -> Findings:
    return play(Shared(kafka), fault, plant, home, "planted", rate=200, plant=plant, brief=True).findings


def test_offsets_that_are_committed_before_the_outputs_are_found(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    found = played(kafka, tmp_path, killed_between("before the transaction"), "offsets first")

    assert found.losses > 0, found
    assert any(line.startswith("3. events missing") for line in found.violations)


def test_rows_that_are_written_before_the_commit_are_found(kafka: KafkaSettings, tmp_path: Path) -> None:
    found = played(kafka, tmp_path, killed_between("after offsets"), "rows first")

    assert found.losses > 0, found
    assert any(line.startswith("2. rows that are not the fold") for line in found.violations)


def test_a_worker_that_fences_nobody_is_found(kafka: KafkaSettings, tmp_path: Path) -> None:
    found = played(kafka, tmp_path, frozen, "no fencing")

    assert found.duplicates > 0, found
    assert any(line.startswith("3. ") for line in found.violations)


def test_a_worker_without_a_bug_is_let_pass(kafka: KafkaSettings, tmp_path: Path) -> None:
    found = played(kafka, tmp_path, killed_between("after offsets"))

    assert found.violations == []
