"""docs/context.md: the context that it prints is the one that the flights' pipeline makes of that day."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from examples.flights import flights
from examples.flights_feed import feed
from schemas.record import Given
from schemas.times import from_ms
from streams.commands.context import for_a_model, page
from streams.memory import Memory, passed
from tests.support.contexts import shown

HOUR_MS = 3_600_000
DAY = date(2013, 2, 7)
DOC = Path(__file__).parents[2] / "docs" / "context.md"


@pytest.fixture(scope="module")
def day() -> Memory:
    """The pipeline after a day of flights."""
    memory, clock_ms = Memory(flights), 0
    for number, record in enumerate(feed(DAY, DAY)):
        if record.play_ms // HOUR_MS * HOUR_MS > clock_ms:
            clock_ms = record.play_ms // HOUR_MS * HOUR_MS
            memory.send([passed(from_ms(clock_ms))])
        arrived_ms = record.time_ms + HOUR_MS
        memory.send([Given("raw", 0, number, arrived_ms, record.key, record.value, record.headers)])
    memory.send([passed(from_ms(clock_ms + 8 * HOUR_MS))])
    return memory


def test_the_context_in_the_docs_is_the_one_of_that_day(day: Memory) -> None:
    number = next(
        number
        for number, each in enumerate(day.decisions)
        if (each.decision, each.key) == ("knock_on", "N531JB") and each.trigger.event_id
    )
    found, doc = shown(day, number), DOC.read_text()

    blocks = [block.strip("\n").splitlines() for block in doc.split("```text")[1:]]
    printed = [block[: block.index("```")] for block in blocks]
    assert "\n".join(printed[0]) == "\n".join(page(found))
    assert "\n".join(printed[1]) == for_a_model(found)


def test_contexts_of_a_real_day_are_made_anew_as_they_were(day: Memory) -> None:
    kinds = {(each.decision, each.entity) for each in day.decisions}
    chosen = range(0, len(day.decisions), max(1, len(day.decisions) // 20))

    assert {("knock_on", "aircraft"), ("rebook", "flight")} <= kinds
    assert all(shown(day, number).same for number in chosen)
