"""streams/memory.py: a pipeline without a broker; and the flights of the blizzard, held against the oracle."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta

import pytest

from examples.flights import Flight, flights
from examples.flights_feed import FeedRecord, feed
from examples.flights_oracle import Oracle, oracle
from schemas.event import Answered
from schemas.record import Given
from schemas.times import from_ms, to_ms
from streams import topics
from streams.memory import Memory, happened, passed, run
from tests.support.flights import expected, found
from tests.support.shop import Order, Paid, Placed, shop

NOON = datetime(2024, 5, 1, 12, 0, tzinfo=UTC)
FIRST, LAST = date(2013, 2, 7), date(2013, 2, 10)
STEP_MS = 30 * 60 * 1000


def test_an_event_is_made_a_raw_record() -> None:
    record = happened(Placed(order_id="o1", customer_id=None, amount=1), NOON, "e1", source="/till", key="k")
    headers = dict(record.headers)
    assert (headers["ce_id"], headers["ce_type"], headers["ce_source"]) == (b"e1", b"order.placed", b"/till")
    assert headers["ce_time"] == b"2024-05-01T12:00:00Z"
    assert (record.key, record.timestamp) == (b"k", to_ms(NOON))
    assert record.value == b'{"order_id":"o1","customer_id":null,"amount":1,"fault":""}'


def test_a_run_shows_rows_and_records() -> None:
    memory = run(shop(), [happened(Placed(order_id="o1", customer_id=None, amount=1), NOON, "e1")])
    assert memory.row("order", "o1").state == Order(amount=1)
    assert memory.row("order", "nobody").version == 0
    assert {topic: len(records) for topic, records in memory.records.items()} == {
        topics.EVENTS: 1,
        topics.CHANGES: 1,
    }
    assert (memory.decisions, memory.actions, memory.reviews, memory.audit, memory.quarantine) == ([],) * 5


def test_time_stands_still_until_it_is_told() -> None:
    paid = happened(Paid(order_id="o1", customer_id="c1", amount=300), NOON, "e1")
    memory = run(shop(), [passed(NOON - timedelta(hours=1)), paid])
    assert memory.decisions == []
    memory.send([passed(NOON + timedelta(minutes=10))])
    assert [made.decision for made in memory.decisions] == ["telling", "watch"]


def test_a_review_is_shown_as_it_stands() -> None:
    paid = happened(Paid(order_id="o1", customer_id="c1", amount=1500), NOON, "e1")
    memory = run(shop(), [paid, passed(NOON + timedelta(minutes=15))])
    (review,) = memory.reviews
    memory.answer(Answered(review_id=review.review_id, approve=True, by="ann"), NOON + timedelta(minutes=16))
    assert [one.status for one in memory.reviews] == ["approved"]
    assert len(memory.records[topics.REVIEWS]) == 2


def test_an_answer_to_a_review_that_does_not_exist_is_a_mistake_of_the_test() -> None:
    with pytest.raises(StopIteration):
        run(shop(), []).answer(Answered(review_id="rev_x", approve=True, by="ann"), NOON)


# The blizzard of February 2013, without a broker.


def played(records: Iterable[FeedRecord]) -> Iterator[Given]:
    """`records` as the playback publishes them to one partition: a clock at every full half hour."""
    clock_ms: int | None = None
    for offset, record in enumerate(records):
        now_ms = record.play_ms // STEP_MS * STEP_MS
        if clock_ms is None or now_ms > clock_ms:
            clock_ms = now_ms
            yield passed(from_ms(clock_ms))
        yield Given("raw", 0, offset, record.time_ms, record.key, record.value, record.headers)
    yield passed(from_ms((clock_ms or 0) + 8 * STEP_MS))


@pytest.fixture(scope="module")
def truth() -> Oracle:
    return oracle(FIRST, LAST)


def statuses(memory: Memory) -> Counter[str]:
    keys = {out.key for out in memory.records[topics.EVENTS] if (out.key or b"").startswith(b"flight:")}
    rows = (memory.row("flight", (key or b"").decode().partition(":")[2]) for key in keys)
    return Counter(row.state.status for row in rows if isinstance(row.state, Flight))


@pytest.mark.parametrize("share", [0.0, 0.05], ids=["as it was", "5 % doubled and 5 % displaced"])
def test_the_flights_of_the_blizzard_equal_the_oracle(truth: Oracle, share: float) -> None:
    memory = run(flights, played(feed(FIRST, LAST, duplicates=share, displaced=share, seed=3)))
    assert found(memory.actions, memory.reviews) == expected(truth)
    assert statuses(memory) == Counter({s: n for s, n in truth.flights_by_status.items() if n})
    assert memory.quarantine == []
    assert (sum(n for kind, n in memory.lane.tally.items() if kind[0] == "duplicate") > 0) == (share > 0)
    keys = [made.decision_id for made in memory.decisions] + [action.action_id for action in memory.actions]
    assert len(set(keys)) == len(keys) > 1000
