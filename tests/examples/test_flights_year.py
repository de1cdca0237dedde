"""The whole year through the flights pipeline in memory: every action, day and airport as the oracle has it."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from examples.flights import flights
from examples.flights_feed import FIRST_DAY, LAST_DAY, feed
from examples.flights_oracle import oracle
from schemas.record import Given
from schemas.times import from_ms
from streams.memory import Memory, passed

HOUR_MS = 3600 * 1000
NEW_YORK = ZoneInfo("America/New_York")


@pytest.mark.year
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_whole_year_equals_the_oracle_per_day_and_airport() -> None:
    memory = Memory(flights)
    clock_ms = 0
    for number, record in enumerate(feed(FIRST_DAY, LAST_DAY)):
        if record.play_ms // HOUR_MS * HOUR_MS > clock_ms:
            clock_ms = record.play_ms // HOUR_MS * HOUR_MS
            memory.send([passed(from_ms(clock_ms))])
            # Three million records that nobody asks for would fill the memory.
            for role in memory.records.keys() - {"actions", "quarantine"}:
                memory.records[role].clear()
        arrived_ms = record.time_ms + HOUR_MS
        memory.send([Given("raw", 0, number, arrived_ms, record.key, record.value, record.headers)])
    memory.send([passed(from_ms(clock_ms + 8 * HOUR_MS))])

    found: dict[str, dict[str, Counter[str]]] = {}
    for action in memory.actions:
        if action.action == "rebook":
            moment = datetime.fromisoformat(action.input["scheduled_departure"])
            airport = action.input["origin"]
        else:
            moment, airport = from_ms(action.at_ms), action.input["airport"]
        day = moment.astimezone(NEW_YORK).date().isoformat()
        found.setdefault(action.action, {}).setdefault(day, Counter())[airport] += 1
    expected = oracle(FIRST_DAY, LAST_DAY).actions
    assert found == {rule: expected[rule] for rule in found}
    assert set(found) == {"rebook", "expedite_turnaround", "ground_delay"}
    # One weather report of the year claims a wind of 1,048 mph.
    assert [refused["reason"] for refused in memory.quarantine] == ["out_of_range"]
