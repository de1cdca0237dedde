"""Orders that events tell about, and the owners that they are linked to: what the tests of the state layer fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from agents.state import LinkRules, StateRules, WindowRules, reduce
from schemas.context import Summary
from schemas.event import Envelope, Event, Linked
from schemas.row import Row, State
from schemas.units import UtcTime
from schemas.window import Item

AnyRow = Row[State]


class Order(State):
    status: str = "new"
    total: int = 0
    owner: str | None = None
    due: UtcTime | None = None


class Said(Event, type="said"):
    """An event that sets fields."""

    fields: dict[str, Any]


class Paid(Item):
    amount: int
    due: UtcTime | None = None


class Standing(Summary):
    """What an order carries to its owner."""

    status: str
    total: int


def said(state: Order, event: Said) -> Order:
    return state.evolve(**event.fields)


def pays(event: Said) -> Paid | None:
    return Paid(amount=event.fields["total"]) if "total" in event.fields else None


LINK = LinkRules("orders", "owner", "owner", Standing, limit=100)
WINDOW = WindowRules("payments", Paid, within_ms=100, limit=1000, take={"said": pays})
RULES = StateRules("order", Order, "latest", {"said": said}, grace_ms=50)
WINDOWED = replace(RULES, windows=(WINDOW,))
LINKED = replace(RULES, links_out=(LINK,), grace_ms=1 << 50)
OWNER = StateRules("owner", State, "latest", {}, links_in={"orders": LINK}, grace_ms=1 << 50)


def new() -> AnyRow:
    return Row[State](state=Order())


def at(
    time_ms: int, id: str = "e1", *, type: str = "said", source: str = "/shop", data: bytes = b"{}"
) -> Envelope:
    return Envelope(id, type, source, time_ms, "order:o1", data)


# One event: when, its id, what it sets.
Told = tuple[int, str, Mapping[str, Any]]


def fold(events: Iterable[Told], rules: StateRules = RULES, row: AnyRow | None = None) -> AnyRow:
    row = row or new()
    for time_ms, id, fields in events:
        row = reduce(rules, row, at(time_ms, id), Said(fields=dict(fields))).row
    return row


def values(row: AnyRow) -> dict[str, Any]:
    return row.state.model_dump()


# Distinct ids and few times, so that ties are common.
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["new", "paid", "sent"]),
        "total": st.integers(0, 2),
        "owner": st.sampled_from([None, "", "ann", "bob"]),
    },
)
EVENTS = st.lists(
    st.tuples(st.integers(-3, 3), st.text("abc", min_size=1, max_size=3), FIELDS),
    max_size=7,
    unique_by=lambda e: e[1],
)
SHUFFLED = EVENTS.flatmap(lambda events: st.tuples(st.just(events), st.permutations(events)))


def tells(time_ms: int, id: str, key: str = "o1", **fields: Any) -> tuple[int, Linked]:
    """What order `key` tells its owner: when, and what."""
    return time_ms, Linked(link="orders", key=key, event_id=id, fields=fields)
