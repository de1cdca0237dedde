"""agents/refold.py: lists of events in any order inside the grace in, one and the same row out, to the byte."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from agents.links import relate, tell
from agents.refold import fold, late
from agents.state import (
    Admitted,
    Duplicate,
    LinkRules,
    StateRules,
    WindowRules,
    admit,
    collect,
)
from schemas.context import Summary
from schemas.event import Envelope, Event, Linked
from schemas.quarantine import Reason, Refusal
from schemas.row import Row, State
from schemas.window import Item
from tables.entity import encoded, new_row

GRACE_MS = 100
AnyRow = Row[State]


class Order(State):
    """A state that tells in which order it was told: no two orders of different events give the same."""

    story: str = ""
    total: int = 0
    last: int = 0
    owner: str | None = None


class Said(Event, type="said"):
    """An event with a number."""

    number: int


class Heard(Item):
    number: int


class Standing(Summary):
    story: str
    total: int


def said(state: Order, event: Said) -> Order:
    """One word more; a zero changes nothing, and a multiple of five only if it comes behind a larger number."""
    if event.number == 0 or (event.number % 5 == 0 and state.last < event.number):
        return state
    return state.evolve(
        story=f"{state.story}{event.number},",
        total=state.total * 2 + event.number,
        last=event.number,
        owner="ann" if event.number % 2 else "bob",
    )


def hears(event: Said) -> Heard | None:
    return Heard(number=event.number) if event.number % 3 == 0 else None


LINK = LinkRules("orders", "owner", "owner", Standing, limit=100)
WINDOW = WindowRules("heard", Heard, within_ms=150, limit=1000, take={"said": hears})
RULES = StateRules(
    "order",
    Order,
    "refold",
    {"said": said},
    windows=(WINDOW,),
    dedupe_limit=200,
    history_limit=3,
    grace_ms=GRACE_MS,
    tail_limit=100,
)
OWNER = StateRules("owner", State, "latest", {}, links_in={"orders": LINK}, grace_ms=1 << 50)
ENCODE = TypeAdapter(Row[Order]).serializer.to_json


class Fact(NamedTuple):
    """An event, when it happened and when it arrives."""

    time_ms: int
    number: int
    delay_ms: int = 0

    @property
    def id(self) -> str:
        """Unique for time and number."""
        return f"e{self.number}@{self.time_ms}"

    @property
    def envelope(self) -> Envelope:
        """As a lane has it."""
        return Envelope(self.id, "said", "/test", self.time_ms, "order:o1", b'{"number":%d}' % self.number)


def read(type: str, data: str) -> Event:
    assert type == "said"
    return Said.model_validate_json(data)


def step(row: AnyRow, fact: Fact, rules: StateRules = RULES) -> AnyRow | Refusal:
    """One event, as the topology leads it."""
    judged = admit(rules, row, fact.envelope)
    if isinstance(judged, Duplicate):
        return row
    refusal = judged if isinstance(judged, Refusal) else late(rules, row, fact.envelope)
    if refusal is not None:
        return refusal
    assert isinstance(judged, Admitted)
    event = Said(number=fact.number)
    reduced = fold(rules, row, fact.envelope, event, judged, read)
    return collect(rules, reduced.row, fact.envelope, event, None)


def told(facts: Sequence[Fact], rules: StateRules = RULES) -> AnyRow:
    """The row after `facts`, none of which is refused."""
    row: AnyRow = new_row(Order)
    for fact in facts:
        after = step(row, fact, rules)
        assert isinstance(after, Row), after
        row = stored(after)
    return row


def stored(row: AnyRow) -> AnyRow:
    """The row as it comes back from the database: crashes and batches change nothing."""
    read_back: Any = TypeAdapter(Row[Order]).validate_json(bytes_of(row))
    assert isinstance(read_back, Row)
    return read_back


def bytes_of(row: AnyRow) -> bytes:
    return encoded(row, ENCODE)


FACTS = st.lists(
    st.builds(Fact, st.integers(0, 600), st.integers(0, 30), st.integers(0, GRACE_MS - 1)),
    unique_by=lambda fact: fact.id,
    min_size=1,
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(FACTS, st.data())
@example([Fact(10, 7), Fact(20, 5), Fact(15, 9, 50)], None)
def test_any_order_of_arrival_inside_the_grace_gives_the_same_row(facts: list[Fact], data: Any) -> None:
    """And so does any repetition: the bytes are those of the events in the order of their times, each once."""
    ordered = sorted(facts, key=lambda fact: (fact.time_ms, fact.id))
    arriving = sorted(facts, key=lambda fact: (fact.time_ms + fact.delay_ms, fact.id))
    if data is not None and len(arriving) > 1:
        for _ in range(data.draw(st.integers(0, 4))):
            again = data.draw(st.integers(0, len(arriving) - 1))
            arriving.insert(data.draw(st.integers(again + 1, len(arriving))), arriving[again])
    expected = told(ordered)
    assert bytes_of(told(arriving)) == bytes_of(expected)
    # It is what a plain fold makes of them.
    state = Order()
    for fact in ordered:
        state = said(state, Said(number=fact.number))
    assert expected.state == state
    assert expected.version == expected.admitted == len(facts)


def test_the_row_is_that_of_the_plain_fold_and_keeps_no_more_than_the_grace() -> None:
    row = told([Fact(0, 1), Fact(50, 2), Fact(150, 3), Fact(151, 4)])
    assert row.fold is not None
    assert [kept.event_id for kept in row.fold.tail] == ["e3@150", "e4@151"]
    assert (row.fold.version, row.fold.state.model_dump()["story"]) == (2, "1,2,")
    assert row.state.model_dump()["story"] == "1,2,3,4,"


def test_history_says_what_each_event_changed_in_the_order_of_time() -> None:
    row = told([Fact(0, 1), Fact(20, 3), Fact(10, 2)])
    assert [
        (change.version, change.event_id, change.fields["story"]) for change in row.changes.entries()
    ] == [
        (1, "e1@0", ("", "1,")),
        (2, "e2@10", ("1,", "1,2,")),
        (3, "e3@20", ("1,2,", "1,2,3,")),
    ]
    assert row.cause is not None
    assert row.cause.event_id == "e3@20"


def test_history_is_bounded_once_it_is_settled() -> None:
    row = told([Fact(200 * number, number % 4 + 1) for number in range(8)])
    # Three of what is settled, and the one in the tail.
    assert [change.version for change in row.changes.entries()] == [5, 6, 7, 8]
    assert row.evicted["changes"] == 4


def test_a_late_event_says_what_is_different_because_of_it() -> None:
    row = told([Fact(0, 1), Fact(20, 3)])
    fact = Fact(10, 2)
    reduced = fold(RULES, row, fact.envelope, Said(number=2), Admitted({}), read)
    assert dict(reduced.corrected) == {"story": "1,2,3,", "total": 11}
    # What it changes at its place, and what the one after it changes now.
    assert '"story":["1,","1,2,"]' in reduced.changed
    (after,) = reduced.restated
    assert (after.cause.event_id, dict(after.said)) == ("e3@20", {})
    assert '"story":["1,2,","1,2,3,"]' in after.changed


def test_an_event_that_no_longer_changes_a_field_says_what_it_is_all_the_same() -> None:
    # A five counts only behind a larger number: the six takes care of that, until the one comes between them.
    row = told([Fact(0, 6), Fact(20, 5)])
    fact = Fact(10, 1)
    reduced = fold(RULES, row, fact.envelope, Said(number=1), Admitted({}), read)
    (after,) = reduced.restated
    assert after.changed == ""
    assert after.said["story"] == "6,1,"


def test_an_event_in_order_has_nobody_say_anything_anew() -> None:
    row = told([Fact(0, 1)])
    fact = Fact(20, 2)
    reduced = fold(RULES, row, fact.envelope, Said(number=2), Admitted({}), read)
    assert (reduced.restated, dict(reduced.said)) == ((), {})


@pytest.mark.parametrize(
    ("time_ms", "reason"), [(100, Reason.BEYOND_GRACE), (0, Reason.BEYOND_GRACE), (101, None)]
)
def test_what_comes_later_than_the_grace_is_refused(time_ms: int, reason: Reason | None) -> None:
    after = step(told([Fact(200, 1)]), Fact(time_ms, 2))
    assert (after.reason if isinstance(after, Refusal) else None) == reason
    if isinstance(after, Refusal):
        assert after.detail == f"{200 - time_ms} ms older than the newest event; the grace is 100 ms"


def test_what_is_settled_for_want_of_room_is_said_too() -> None:
    rules = replace(RULES, tail_limit=2)
    row = told([Fact(0, 1), Fact(10, 2), Fact(20, 3)], rules)
    assert row.evicted["tail"] == 1
    assert isinstance(step(row, Fact(5, 4), rules), Row)
    refused = step(row, Fact(0, 0), rules)
    assert isinstance(refused, Refusal)
    assert "only the last 2 events of it are kept" in refused.detail


def test_what_relations_tell_does_not_make_events_late() -> None:
    rules = replace(RULES, links_in={"orders": LINK})
    news = Linked(link="orders", key="o2", event_id="x", fields={"total": 1})
    row = relate(rules, told([Fact(0, 1)], rules), Envelope("x", "l", "/t", 5000, "o", b""), news, None)
    after = step(row, Fact(50, 2), rules)
    assert isinstance(after, Row)
    assert (after.version, after.as_of_ms, after.state.model_dump()["story"]) == (3, 5000, "1,2,")
    assert after.changes.entries()[-1].version == 2


@settings(max_examples=100, deadline=None)
@given(FACTS)
def test_a_related_entity_hears_what_is_so_at_last(facts: list[Fact]) -> None:
    """Whoever is told in whatever order: the relation ends with the values of the order of time."""
    rules = replace(RULES, links_out=(LINK,))
    row: AnyRow = new_row(Order)
    holders = dict[str, AnyRow]()
    for fact in sorted(facts, key=lambda fact: (fact.time_ms + fact.delay_ms, fact.id)):
        judged = admit(rules, row, fact.envelope)
        assert isinstance(judged, Admitted)
        reduced = fold(rules, row, fact.envelope, Said(number=fact.number), judged, read)
        row, outs = tell(rules, "o1", reduced)
        for out in outs:
            holder = holders.get(out.key) or new_row(State)
            holders[out.key] = relate(OWNER, holder, fact.envelope, out.linked, None)
    state = row.state.model_dump()
    held = {key: holder.related.get("orders", {}) for key, holder in holders.items()}
    assert {key for key, orders in held.items() if orders} == ({state["owner"]} if state["owner"] else set())
    if state["owner"]:
        orders = held[state["owner"]]["o1"]
        assert {name: values[-1].value for name, values in orders.items()} == {
            "story": state["story"],
            "total": state["total"],
        }
