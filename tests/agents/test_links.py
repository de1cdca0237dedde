"""agents/links.py: what entities tell, and what they hold of others; the laws of order on both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.context import related_as_of
from agents.links import LinkOut, relate, tell
from agents.state import StateRules, reduce
from schemas.context import Summary
from schemas.event import Linked
from schemas.row import FieldValue, Row, State
from schemas.units import UtcTime
from tests.support.orders import (
    EVENTS,
    LINK,
    LINKED,
    OWNER,
    AnyRow,
    Order,
    Said,
    Standing,
    Told,
    at,
    new,
    tells,
    values,
)

# Relations: what the other side holds.


def heard(*messages: tuple[int, Linked], rules: StateRules = OWNER, now_ms: int | None = None) -> AnyRow:
    row = Row[State](state=State())
    for time_ms, linked in messages:
        row = relate(rules, row, at(time_ms, "lnk"), linked, now_ms)
    return row


def removes(time_ms: int, key: str = "o1") -> tuple[int, Linked]:
    return time_ms, Linked(link="orders", key=key, event_id="gone", fields={}, removed=True)


def known(row: AnyRow, at_ms: int) -> dict[str, dict[str, Any]]:
    related = related_as_of(row, "orders", Standing, at_ms)
    return {key: summary.model_dump() for key, summary in related.items()}


TELLING = st.lists(
    st.tuples(
        st.integers(0, 9),
        st.text("abc", min_size=1, max_size=3),
        st.sampled_from(["o1", "o2"]),
        st.fixed_dictionaries(
            {}, optional={"status": st.sampled_from(["paid", "sent"]), "total": st.integers(0, 3)}
        ),
    ),
    max_size=8,
    unique_by=lambda message: message[1],
).flatmap(lambda messages: st.tuples(st.just(messages), st.permutations(messages)))


@settings(deadline=None)
@given(TELLING, st.integers(-1, 10))
def test_related_entities_are_right_as_of_any_instant_for_every_arrival_order(
    orders: tuple[list[tuple[int, str, str, dict[str, Any]]], list[Any]], at_ms: int
) -> None:
    expected: dict[str, dict[str, Any]] = {}
    for time_ms, _, key, fields in sorted(orders[0], key=lambda message: message[:2]):
        if time_ms <= at_ms:
            expected[key] = expected.get(key, {}) | fields
    complete = {key: fields for key, fields in expected.items() if len(fields) == 2}
    for messages in orders:
        row = heard(*(tells(time_ms, id, key, **fields) for time_ms, id, key, fields in messages))
        assert known(row, at_ms) == complete


def test_the_last_word_before_the_grace_stays_and_what_it_replaced_goes() -> None:
    rules = replace(OWNER, grace_ms=10)
    row = heard(*(tells(n, f"e{n}", status=str(n), total=n) for n in (1, 2, 8, 14)), rules=rules)
    said = row.related["orders"]["o1"]["status"]
    assert [entry.value for entry in said] == ["2", "8", "14"], "as of 4, what was said at 2 is true"
    assert known(row, 4) == {"o1": {"status": "2", "total": 2}}


def test_a_word_at_the_very_edge_of_the_grace_is_the_last_one_needed() -> None:
    row = heard(*(tells(n, f"e{n}", status=str(n)) for n in (1, 4, 14)), rules=replace(OWNER, grace_ms=10))
    assert [entry.value for entry in row.related["orders"]["o1"]["status"]] == ["4", "14"]


def test_a_late_word_from_before_the_grace_changes_nothing() -> None:
    rules = replace(OWNER, grace_ms=10)
    row = heard(tells(2, "e2", status="2", total=2), tells(14, "e14", status="14", total=14), rules=rules)
    late = heard(
        *(tells(2, "e2", status="2", total=2), tells(14, "e14", status="14", total=14)),
        *(tells(1, "e1", status="1", total=1),),
        rules=rules,
    )
    assert late.related == row.related


def test_a_default_holds_until_the_first_event_that_set_the_field() -> None:
    begins = tells(5, "", status="new", total=0)
    before, after = tells(3, "e1", status="paid"), tells(7, "e2", status="sent")
    assert known(heard(begins, after), 6) == {"o1": {"status": "new", "total": 0}}
    # Heard of later, but set earlier: the default was never true.
    assert known(heard(begins, before), 9) == {"o1": {"status": "paid", "total": 0}}
    assert known(heard(before, begins, after), 9) == {"o1": {"status": "sent", "total": 0}}


def test_an_entity_that_goes_away_is_forgotten_and_may_come_back() -> None:
    come = tells(1, "e1", status="new", total=1)
    gone = heard(come, tells(1, "e1", "o2", status="new", total=2), removes(2))
    assert known(gone, 9) == {"o2": {"status": "new", "total": 2}}
    assert known(heard(come, removes(2), tells(3, "e3", status="paid", total=3)), 9) == {
        "o1": {"status": "paid", "total": 3}
    }
    assert known(heard(removes(2)), 9) == {}


def test_a_full_relation_loses_the_one_heard_of_longest_ago() -> None:
    rules = replace(OWNER, grace_ms=5, links_in={"orders": replace(LINK, limit=2)})
    messages = [tells(n, f"e{n}", f"o{n}", status="new", total=n) for n in (1, 2, 20)]
    row = heard(*messages, rules=rules)
    assert (sorted(row.related["orders"]), row.evicted) == (["o2", "o20"], {"orders": 1})


def test_a_full_relation_keeps_what_an_instant_inside_the_grace_can_see() -> None:
    rules = replace(OWNER, grace_ms=50, links_in={"orders": replace(LINK, limit=2)})
    row = heard(*(tells(n, f"e{n}", f"o{n}", status="new", total=n) for n in (1, 2, 20)), rules=rules)
    assert (len(row.related["orders"]), row.evicted) == (3, {})


def test_hearing_of_another_is_a_version_of_the_row() -> None:
    row = heard(tells(-7, "e1", status="new", total=1), tells(-9, "e2", "o2", status="new", total=1))
    assert (row.version, row.as_of_ms) == (2, -7)


# Links: what an entity tells.


def told(*events: Told, rules: StateRules = LINKED) -> list[LinkOut]:
    """What the last of `events` makes the order tell."""
    row, out = new(), list[LinkOut]()
    for event in events:
        row, out = follow(row, event, rules)
    return out


def follow(row: AnyRow, event: Told, rules: StateRules = LINKED) -> tuple[AnyRow, list[LinkOut]]:
    time_ms, id, fields = event
    return tell(rules, "o1", reduce(rules, row, at(time_ms, id), Said(fields=dict(fields))))


def message(key: str, id: str, *, removed: bool = False, **fields: Any) -> LinkOut:
    """A field is what the event said, or a `FieldValue` that stood already."""
    stands = {
        name.removesuffix("_"): value for name, value in fields.items() if isinstance(value, FieldValue)
    }
    says = {name: value for name, value in fields.items() if not isinstance(value, FieldValue)}
    linked = Linked(link="orders", key="o1", event_id=id, fields=says, standing=stands, removed=removed)
    return LinkOut("owner", key, linked)


BEGIN: Told = (5, "e1", {"owner": "ann", "status": "paid"})


def test_a_link_begins_with_all_it_carries() -> None:
    assert told(BEGIN) == [message("ann", "e1", status="paid", total=FieldValue(5, "", 0))]


def test_a_link_begins_with_what_earlier_events_set() -> None:
    assert told((2, "e0", {"total": 7}), BEGIN) == [
        message("ann", "e1", status="paid", total=FieldValue(2, "e0", 7))
    ]


def test_a_late_event_that_begins_a_link_tells_what_it_said_and_what_stands() -> None:
    assert told((9, "e9", {"status": "sent"}), BEGIN) == [
        message("ann", "e1", status="paid", status_=FieldValue(9, "e9", "sent"), total=FieldValue(5, "", 0))
    ]


def test_by_arrival_a_link_begins_with_what_stands_then() -> None:
    rules = replace(LINKED, order="arrival")
    assert told((9, "e0", {"total": 7}), BEGIN, rules=rules) == [
        message("ann", "e1", status="paid", total=FieldValue(5, "e1", 7))
    ]


def test_afterwards_an_event_tells_what_it_set_also_when_it_is_late_or_changes_nothing() -> None:
    assert told(BEGIN, (7, "e2", {"status": "sent"})) == [message("ann", "e2", status="sent")]
    assert told(BEGIN, (3, "e2", {"status": "sent"})) == [message("ann", "e2", status="sent")]
    assert told(BEGIN, (7, "e2", {"status": "paid"})) == [message("ann", "e2", status="paid")]


def test_an_event_that_sets_nothing_carried_tells_nothing() -> None:
    assert told(BEGIN, (7, "e2", {"due": None})) == []


def test_a_link_that_moves_is_taken_from_one_and_told_the_other() -> None:
    assert told(BEGIN, (7, "e2", {"owner": "bob"})) == [
        message("ann", "e2", removed=True),
        message("bob", "e2", status=FieldValue(5, "e1", "paid"), total=FieldValue(7, "", 0)),
    ]


@pytest.mark.parametrize("nobody", [None, ""])
def test_a_link_to_nobody_is_none(nobody: str | None) -> None:
    assert told((5, "e1", {"owner": nobody, "total": 1})) == []
    row, out = follow(follow(new(), BEGIN)[0], (7, "e2", {"owner": nobody}))
    assert (out, row.linked) == ([message("ann", "e2", removed=True)], {})


def test_what_is_told_is_what_json_has() -> None:
    class Dated(Summary):
        due: UtcTime | None

    rules = replace(LINKED, links_out=(replace(LINK, carries=Dated),))
    due = Order.model_validate_json('{"due":"2013-02-08T12:00:00Z"}').due
    assert told((5, "e1", {"owner": "ann", "due": due}), rules=rules) == [
        message("ann", "e1", due="2013-02-08T12:00:00Z")
    ]


@settings(deadline=None, max_examples=300)
@given(EVENTS)
@example([(9, "e3", {"status": "sent"}), (5, "e1", {"owner": "ann"}), (7, "e2", {"status": "paid"})])
@example([(5, "e1", {"owner": "ann"}), (3, "e2", {"total": 2})])
@example([(5, "e1", {"owner": "ann"}), (5, "e3", {"total": 1}), (5, "e2", {"total": 2})])
def test_in_the_end_both_sides_of_a_link_agree_for_every_arrival_order(events: list[Told]) -> None:
    """The owner holds the order's own values, and nobody else holds any."""
    row, owners = new(), dict[str, AnyRow]()
    for event in events:
        row, out = follow(row, event)
        for link in out:
            owner = owners.get(link.key) or Row[State](state=State())
            owners[link.key] = relate(OWNER, owner, at(event[0], "lnk"), link.linked, None)
    carried = {name: values(row)[name] for name in Standing.model_fields}
    for key, owner in owners.items():
        assert known(owner, 1 << 40) == ({"o1": carried} if key == values(row)["owner"] else {})
