"""agents/state.py: lists of events in, rows out; the laws of order, memory and windows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.links import relate, tell
from agents.state import (
    Admitted,
    Duplicate,
    StateRules,
    admit,
    collect,
    expire,
    reduce,
)
from schemas.carried import Change
from schemas.errors import WrongReturn
from schemas.event import Envelope
from schemas.quarantine import Reason, Refusal
from schemas.row import Cause, FoldOrder, Stamp, WindowItem, settled
from tests.support.orders import (
    EVENTS,
    FIELDS,
    LINK,
    RULES,
    SHUFFLED,
    WINDOW,
    WINDOWED,
    AnyRow,
    Order,
    Paid,
    Said,
    Told,
    at,
    fold,
    new,
    tells,
    values,
)

# Order `latest`.


@settings(deadline=None)
@given(SHUFFLED)
def test_any_arrival_order_gives_the_same_state(orders: tuple[list[Told], list[Told]]) -> None:
    one, other = (fold(events) for events in orders)
    assert values(one) == values(other)
    assert (one.set_by, one.version, one.as_of_ms) == (other.set_by, other.version, other.as_of_ms)


@settings(deadline=None)
@given(EVENTS)
def test_every_field_has_the_value_of_the_newest_event_that_set_it(events: list[Told]) -> None:
    expected = Order().model_dump()
    for _, _, fields in sorted(events, key=lambda event: event[:2]):
        expected |= fields
    assert values(fold(events)) == expected


def test_of_two_events_at_once_the_greater_id_wins() -> None:
    events: list[Told] = [(5, "e2", {"status": "paid"}), (5, "e1", {"status": "sent"})]
    assert values(fold(events))["status"] == values(fold(reversed(events)))["status"] == "paid"


def test_a_late_event_fills_only_what_no_newer_event_set() -> None:
    row = fold([(9, "e1", {"status": "sent"}), (5, "e2", {"status": "paid", "total": 7})])
    assert (values(row)["status"], values(row)["total"]) == ("sent", 7)
    assert row.set_by == {"status": Stamp(9, "e1"), "total": Stamp(5, "e2")}


def test_setting_a_field_to_the_value_it_has_is_setting_it() -> None:
    row = fold([(9, "e1", {"status": "new"}), (5, "e2", {"status": "paid"})])
    assert values(row)["status"] == "new"


def test_what_a_late_event_said_is_told_although_it_changed_nothing() -> None:
    reduced = reduce(
        RULES, fold([(9, "e1", {"status": "sent"})]), at(5, "e2"), Said(fields={"status": "paid"})
    )
    assert (reduced.given, reduced.changed, reduced.said) == ({"status": "paid"}, "", {"status": "paid"})
    assert (reduced.row.version, reduced.row.as_of_ms) == (2, 9)


@pytest.mark.parametrize(
    ("order", "time_ms", "said"),
    [
        ("latest", 10, {"status": "sent"}),
        ("latest", 8, {"status": "sent"}),
        # In order of arrival what is said again in good time was so all along.
        ("arrival", 10, {}),
        ("arrival", 8, {"status": "sent"}),
    ],
)
def test_what_is_said_again_is_told_where_somebody_may_need_it(
    order: FoldOrder, time_ms: int, said: dict[str, Any]
) -> None:
    rules = replace(RULES, order=order)
    row = fold([(9, "e1", {"status": "sent"})], rules)
    reduced = reduce(rules, row, at(time_ms, "e2"), Said(fields={"status": "sent"}))
    assert (reduced.changed, dict(reduced.said)) == ("", said)


# Order `arrival`.


def test_by_arrival_the_last_event_to_come_wins_however_old() -> None:
    rules = replace(RULES, order="arrival")
    row = fold([(9, "e1", {"status": "sent"}), (5, "e2", {"status": "paid"})], rules)
    assert (values(row)["status"], row.as_of_ms, row.set_by) == ("paid", 9, {})


def test_by_arrival_a_reducer_may_count() -> None:
    def count(state: Order, event: Said) -> Order:
        return state.evolve(total=state.total + 1)

    rules = replace(RULES, order="arrival", reducers={"said": count})
    assert values(fold([(9, "e1", {}), (5, "e2", {}), (7, "e3", {})], rules))["total"] == 3


# What explains a row.


def test_an_event_explains_what_it_changed() -> None:
    row = fold([(5, "e1", {"status": "paid", "total": 7}), (6, "e2", {"status": "paid", "total": 8})])
    assert list(row.changes) == [
        Change(1, 5, "e1", {"status": ("new", "paid"), "total": (0, 7)}),
        Change(2, 6, "e2", {"total": (7, 8)}),
    ]
    assert (row.version, row.as_of_ms, row.cause) == (2, 6, Cause("e2", "said", "/shop", 6))


def test_a_change_is_noted_as_json_has_it() -> None:
    moment = "2013-02-08T12:00:00Z"
    due = Order.model_validate_json(f'{{"due":"{moment}"}}').due
    assert list(fold([(5, "e1", {"due": due})]).changes) == [Change(1, 5, "e1", {"due": (None, moment)})]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_row_keeps_so_many_changes_and_counts_the_others(limit: int) -> None:
    row = fold([(n, f"e{n}", {"total": n + 1}) for n in range(5)], replace(RULES, history_limit=limit))
    assert [change.event_id for change in row.changes] == ["e0", "e1", "e2", "e3", "e4"][5 - limit :]
    assert row.evicted == {"changes": 5 - limit}


def test_an_event_that_no_reducer_hears_is_noted_and_changes_nothing() -> None:
    reduced = reduce(RULES, new(), at(5, type="seen"), Said(fields={"total": 7}))
    assert (values(reduced.row), reduced.given, reduced.changed) == (Order().model_dump(), {}, "")
    assert (reduced.row.version, reduced.row.as_of_ms) == (1, 5)


def test_before_1970_a_row_is_as_of_its_newest_event_too() -> None:
    assert fold([(-9, "e1", {}), (-5, "e2", {}), (-7, "e3", {})]).as_of_ms == -5


def test_a_reducer_that_returns_something_else_is_named() -> None:
    def forgot(state: Order, event: Said) -> Order:
        return None  # type: ignore[return-value] # the mistake in question

    with pytest.raises(WrongReturn, match=r"forgot must return Order, got NoneType"):
        reduce(replace(RULES, reducers={"said": forgot}), new(), at(5), Said(fields={}))


def test_a_reducer_that_makes_a_state_from_scratch_sets_what_it_so_resets() -> None:
    """Otherwise a field would lose its value, and nothing would say which event took it."""

    def restart(state: Order, event: Said) -> Order:
        return Order(status="new")

    row = fold([(5, "e1", {"total": 7})])
    reduced = reduce(replace(RULES, reducers={"said": restart}), row, at(6, "e2"), Said(fields={}))
    assert reduced.changed == '{"total":[7,0]}'
    assert reduced.row.set_by == {"status": Stamp(6, "e2"), "total": Stamp(6, "e2")}


def test_a_reducer_may_return_a_constant_again_and_again() -> None:
    sent = Order(status="sent")
    rules = replace(RULES, reducers={"said": lambda state, event: sent})
    for _ in range(2):
        assert reduce(rules, new(), at(5), Said(fields={})).given == {"status": "sent"}


def test_a_reducer_may_return_the_state_as_it_is() -> None:
    rules = replace(RULES, reducers={"said": lambda state, event: state})
    reduced = reduce(rules, fold([(5, "e1", {"total": 7})]), at(6, "e2"), Said(fields={}))
    assert (reduced.given, reduced.changed, values(reduced.row)["total"]) == ({}, "", 7)


# Dedupe.


def admitted(row: AnyRow, envelope: Envelope, rules: StateRules = RULES) -> AnyRow:
    judged = admit(rules, row, envelope)
    assert isinstance(judged, Admitted), judged
    return reduce(rules, row, envelope, Said(fields={}), judged).row


def refusal(row: AnyRow, envelope: Envelope, rules: StateRules = RULES) -> Reason:
    judged = admit(rules, row, envelope)
    assert isinstance(judged, Refusal), judged
    return judged.reason


def test_a_duplicate_is_counted_and_changes_nothing_else() -> None:
    row = admitted(new(), at(5))
    judged = admit(RULES, row, at(5))
    assert isinstance(judged, Duplicate)
    assert judged.row.duplicates == 1
    assert judged.row.with_(duplicates=0) == row


def test_in_order_refold_a_duplicate_leaves_no_trace() -> None:
    row = admitted(new(), at(5))
    judged = admit(replace(RULES, order="refold"), row, at(5))
    assert isinstance(judged, Duplicate)
    assert judged.row is row


def test_a_duplicate_is_one_also_when_it_was_stamped_anew() -> None:
    assert isinstance(admit(RULES, admitted(new(), at(5)), at(6)), Duplicate)


@pytest.mark.parametrize("other", [{"data": b'{"a":1}'}, {"type": "shipped"}, {"source": "/depot"}])
def test_an_id_that_names_two_facts_is_a_conflict(other: dict[str, Any]) -> None:
    """Also two facts with the same body: a swallowed event would be lost without a trace."""
    assert refusal(admitted(new(), at(5)), at(5, **other)) == Reason.ID_CONFLICT


def test_a_row_remembers_so_many_ids_and_refuses_what_it_may_have_forgotten() -> None:
    rules = replace(RULES, dedupe_limit=2)
    row = new()
    for n in range(5):
        row = admitted(row, at(n, f"e{n}"), rules)
    assert (list(row.seen), row.seen_floor_ms, row.evicted, row.admitted) == (["e3", "e4"], 2, {"seen": 3}, 5)
    assert refusal(row, at(2, "e2"), rules) == Reason.BEYOND_DEDUPE
    assert refusal(row, at(2, "late"), rules) == Reason.BEYOND_DEDUPE
    assert isinstance(admit(rules, row, at(3, "e3")), Duplicate)


def test_a_row_remembers_ids_for_so_long() -> None:
    rules = replace(RULES, dedupe_within_ms=10)
    row = admitted(admitted(new(), at(0, "e0"), rules), at(10, "e1"), rules)
    assert list(row.seen) == ["e0", "e1"]
    row = admitted(row, at(11, "e2"), rules)
    assert (list(row.seen), row.seen_floor_ms) == (["e1", "e2"], 0)


def test_a_late_event_is_remembered_at_least_until_the_next_one() -> None:
    """Its repetition often follows at once, and is then a duplicate, not a riddle."""
    rules = replace(RULES, dedupe_limit=2)
    row = new()
    for time_ms, id in ((50, "e1"), (51, "e2"), (5, "late")):
        row = admitted(row, at(time_ms, id), rules)
    assert isinstance(admit(rules, row, at(5, "late")), Duplicate)
    row = admitted(row, at(52, "e3"), rules)
    assert (list(row.seen), row.seen_floor_ms) == (["e2", "e3"], 50)
    assert refusal(row, at(5, "late"), rules) == Reason.BEYOND_DEDUPE


def test_before_1970_ids_are_remembered_as_long() -> None:
    rules = replace(RULES, dedupe_within_ms=10)
    year = 365 * 24 * 3600 * 1000
    row = admitted(admitted(new(), at(-year, "e1"), rules), at(-year + 1, "e2"), rules)
    assert (list(row.seen), row.seen_floor_ms) == (["e1", "e2"], None)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, 12), st.integers(-9, 30)), max_size=12, unique_by=lambda e: e[0]
    ).flatmap(lambda events: st.lists(st.sampled_from(events), max_size=40) if events else st.just([])),
    st.integers(1, 4),
    st.integers(0, 20),
)
@example([(1, 5), (2, 6), (3, 1), (1, 5), (3, 1)], 1, 20)
@example([(1, 20), (0, 40), (2, 8), (3, 41), (1, 20)], 4, 10)
def test_no_event_is_ever_admitted_twice(events: list[tuple[int, int]], limit: int, within_ms: int) -> None:
    """Whatever is repeated, in whatever order, and however little the row remembers.

    Number 0 is news of a related entity: it moves the row's time on and has no id to be remembered.
    """
    rules = replace(RULES, dedupe_limit=limit, dedupe_within_ms=within_ms, links_in={"orders": LINK})
    row, count = new(), Counter[int]()
    for number, time_ms in events:
        if number == 0:
            row = relate(rules, row, at(time_ms, "lnk"), tells(time_ms, "e0", status="a")[1], None)
            continue
        judged = admit(rules, row, at(time_ms, f"e{number}"))
        if isinstance(judged, Duplicate):
            assert count[number] == 1
            row = judged.row
        elif isinstance(judged, Refusal):
            assert judged.reason == Reason.BEYOND_DEDUPE
        else:
            count[number] += 1
            row = reduce(rules, row, at(time_ms, f"e{number}"), Said(fields={}), judged).row
        # The event that has just come stays, even when it is the oldest of all.
        assert len(row.seen) <= limit + 1
    assert all(times == 1 for times in count.values())
    assert row.admitted == sum(count.values())


# Windows.


def entries(row: AnyRow) -> list[tuple[int, str, int]]:
    return [(item.time_ms, item.event_id, item.value["amount"]) for item in row.windows.get("payments", [])]


def put(row: AnyRow, *events: Told, rules: StateRules = WINDOWED, now_ms: int | None = None) -> AnyRow:
    for time_ms, id, fields in events:
        event, envelope = Said(fields=dict(fields)), at(time_ms, id)
        row = collect(rules, reduce(rules, row, envelope, event).row, envelope, event, now_ms)
    return row


def test_a_window_holds_what_its_function_makes_by_event_time() -> None:
    row = put(new(), (9, "e1", {"total": 1}), (5, "e3", {"total": 2}), (5, "e2", {"total": 3}), (7, "e4", {}))
    assert entries(row) == [(5, "e2", 3), (5, "e3", 2), (9, "e1", 1)]


def test_a_window_holds_items_as_json_has_them() -> None:
    due = Paid.model_validate_json('{"amount":1,"due":"2013-02-08T14:00:00+02:00"}')
    rules = replace(RULES, windows=(replace(WINDOW, take={"said": lambda event: due}),))
    row = put(new(), (5, "e1", {}), rules=rules)
    assert row.windows == {"payments": [WindowItem(5, "e1", {"amount": 1, "due": "2013-02-08T12:00:00Z"})]}


def test_a_window_function_that_returns_something_else_is_named() -> None:
    rules = replace(RULES, windows=(replace(WINDOW, take={"said": lambda event: {"amount": 1}}),))  # type: ignore[dict-item, return-value]
    with pytest.raises(WrongReturn, match="must return Paid or None, got dict"):
        put(new(), (5, "e1", {}), rules=rules)


def test_a_window_lets_go_of_what_no_instant_inside_the_grace_can_see() -> None:
    """100 ms of window and 50 ms of grace before 200: what happened at 50 is out, what happened at 51 is in."""
    row = put(new(), (50, "e1", {"total": 1}), (51, "e2", {"total": 2}), (200, "e3", {"total": 3}))
    assert entries(row) == [(51, "e2", 2), (200, "e3", 3)]
    assert row.evicted == {}, "what is out of sight is no loss"


def test_time_is_the_lanes_where_it_is_known() -> None:
    row = put(new(), (0, "e1", {"total": 1}), (900, "e2", {"total": 2}), now_ms=20)
    assert entries(row) == [(0, "e1", 1), (900, "e2", 2)]


def test_a_full_window_loses_its_oldest_and_counts_it() -> None:
    rules = replace(RULES, windows=(replace(WINDOW, limit=2),))
    row = put(new(), *((n, f"e{n}", {"total": n}) for n in (3, 1, 2)), rules=rules)
    assert (entries(row), row.evicted) == ([(2, "e2", 2), (3, "e3", 3)], {"payments": 1})


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-200, 200), st.text("abc", min_size=1, max_size=3), FIELDS),
        max_size=7,
        unique_by=lambda e: e[1],
    ).flatmap(lambda events: st.tuples(st.just(events), st.permutations(events))),
    st.integers(1, 3),
)
def test_any_arrival_order_gives_the_same_window(orders: tuple[list[Told], list[Told]], limit: int) -> None:
    """As far as an instant inside the grace can see."""
    rules = replace(RULES, windows=(replace(WINDOW, limit=limit),))
    one, other = (expire(rules, row := put(new(), *events, rules=rules), row.as_of_ms) for events in orders)
    assert entries(one) == entries(other)


def test_a_window_that_nobody_feeds_runs_empty_by_time_alone() -> None:
    row = put(new(), (0, "e1", {"total": 1}), (10, "e2", {"total": 2}))
    assert entries(expire(WINDOWED, row, 150)) == [(10, "e2", 2)]
    assert not any(expire(WINDOWED, row, 160).windows.values())
    assert expire(WINDOWED, row, 149) is row


# Purity.


@settings(deadline=None)
@given(EVENTS)
def test_no_function_changes_the_row_it_is_given(events: list[Told]) -> None:
    """The lane keeps rows live across batches: a change in place would be seen by nobody, or twice."""
    rules = replace(WINDOWED, links_out=(LINK,), links_in={"orders": LINK}, dedupe_limit=2, history_limit=1)
    row = new()

    def unchanged(step: Callable[[AnyRow], Any]) -> Any:
        before = row.model_dump_json()
        done = step(row)
        assert row.model_dump_json() == before
        return done

    for time_ms, id, fields in events:
        envelope, event = at(time_ms, id), Said(fields=dict(fields))
        judged = unchanged(lambda row: admit(rules, row, envelope))  # noqa: B023 - called at once
        known = judged if isinstance(judged, Admitted) else None
        reduced = unchanged(lambda row: reduce(rules, row, envelope, event, known))  # noqa: B023
        row, _ = unchanged(lambda _: tell(rules, "o1", reduced))  # noqa: B023
        row = unchanged(lambda row: collect(rules, row, envelope, event, None))  # noqa: B023
        row = unchanged(lambda row: relate(rules, row, envelope, tells(time_ms, id, status="a")[1], None))  # noqa: B023
        unchanged(lambda row: expire(rules, row, 1 << 40))
        assert row.state == settled(row.state)
