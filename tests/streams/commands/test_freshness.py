"""`midstream freshness` on a running pipeline: who is stale now, and who will be later."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.support.desk import CUSTOMERS, Desk

pytestmark = pytest.mark.broker


def test_nothing_is_stale_yet(desk: Desk) -> None:
    run = desk.run("freshness")

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[0].split() == ["entity", "rows", "stale", "stale", "after", "newest"]
    assert "0 rows are stale" in run.stderr


def test_who_has_been_silent_is_listed_later(desk: Desk) -> None:
    later = datetime.now(UTC) + timedelta(days=31)
    run = desk.run("freshness", f"--at={later:%Y-%m-%dT%H:%M:%S}", "--limit=2")

    assert run.returncode == 1, run.stderr
    # The customers say after how long they are stale, the tickets do not.
    assert f"{len(CUSTOMERS)} rows are stale" in run.stderr
    assert "customer:" in run.stdout
    assert f"and {len(CUSTOMERS) - 2} more" in run.stdout


def test_programs_get_the_sources_too(desk: Desk) -> None:
    told = desk.told("freshness")

    found = {each["entity"]: each for each in told["entities"]}
    assert found["customer"]["rows"] == len(CUSTOMERS)
    assert found["customer"]["stale_after_ms"] == timedelta(days=30) / timedelta(milliseconds=1)
    assert found["customer"]["stalest"] == []
    assert set(found["ticket"]["sources"]) == set(found["customer"]["sources"])
