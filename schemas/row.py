"""What we know of one entity: the typed state and everything that explains it, bounded, as one row.

A row is the value of `<entity>.changelog` and of the lane's RocksDB. Every list in it has a declared bound.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import Any, Generic, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, Field

from schemas.carried import History, Seen
from schemas.model import Declared

FoldOrder = Literal["arrival", "latest", "refold"]
"""In which order an entity's events count: see `StateRules`."""

NO_HISTORY = History()
NOTHING_SEEN = Seen()
_set = object.__setattr__


class State(Declared):
    """Base of an entity's state. Fields need defaults: a state exists before its first event."""

    def evolve(self, **changes: Any) -> Self:
        """A validated copy with `changes`; the row remembers exactly these fields as set by the event.

        Raises:
            pydantic.ValidationError: a value has the wrong type or the field does not exist.
        """
        values = fields_of(self) | changes
        new: Self = self.__pydantic_validator__.validate_python(values)
        _set(new, "__pydantic_fields_set__", self.__pydantic_fields_set__ | changes.keys())
        return new


StateT = TypeVar("StateT", bound=State)


def touched(state: StateT, names: AbstractSet[str]) -> StateT:
    """Mark `names` as the fields that `state` was given, in place, and return it.

    Pydantic's own record of fields that were set is what tells a reducer's changes from what was there before;
    `latest` order needs it, because an event may set a field to the value it already had.
    """
    object.__setattr__(state, "__pydantic_fields_set__", set(names))
    return state


def fields_of(state: State) -> dict[str, Any]:
    """Field → value, without what `functools.cached_property` keeps beside them."""
    values, fields = state.__dict__, type(state).__pydantic_fields__
    return values if len(values) == len(fields) else {name: values[name] for name in fields}


def settled(state: StateT) -> StateT:
    """A copy of `state` that was given no field yet: what the row holds between events.

    A copy, because the state may be a constant of the pipeline's author, given to many rows. The values are shared:
    nobody changes them.
    """
    new = object.__new__(type(state))
    _set(new, "__dict__", fields_of(state))
    _set(new, "__pydantic_fields_set__", set())
    _set(new, "__pydantic_extra__", None)
    _set(new, "__pydantic_private__", state.__pydantic_private__)
    return new


class Stamp(NamedTuple):
    """When, and by which event: the order of two facts. The event id breaks ties of event time."""

    time_ms: int
    event_id: str


class Cause(NamedTuple):
    """The event that made the row what it is."""

    event_id: str
    type: str
    source: str
    time_ms: int


class WindowItem(NamedTuple):
    """One entry of a window, in event-time order."""

    time_ms: int
    event_id: str
    value: Any


class FieldValue(NamedTuple):
    """What a related entity said of one of its fields at one time."""

    time_ms: int
    event_id: str
    value: Any


class Kept(NamedTuple):
    """An event in the tail of a row, whole: an earlier one may still come, and then it is folded in again."""

    time_ms: int
    event_id: str
    type: str
    source: str
    # Whether it changed a field: then it has a line in the row's history.
    changed: bool
    data: str

    @property
    def cause(self) -> Cause:
        """It, as what made a row what it is."""
        return Cause(self.event_id, self.type, self.source, self.time_ms)


class Fold(BaseModel, Generic[StateT]):
    """For order `refold`: what is settled, and the tail of events that is not, in the order of their times."""

    # Of the events before the tail: the state that they led to, their number, the last of them.
    state: StateT
    version: int = 0
    cause: Cause | None = None
    # How many lines of the row's history are theirs.
    lines: int = 0
    tail: list[Kept] = Field(default_factory=list)


class Timer(BaseModel):
    """A moment in event time at which a decision is looked at."""

    due_ms: int
    # The instant the decision is about; `due_ms` is later by the time the decision waits for late facts.
    at_ms: int
    decision: str
    trigger: str
    event_id: str = ""
    event_type: str = ""
    data: str = ""
    # "settle": once; "every": armed again while the row's windows hold anything; "review": a deadline.
    kind: str


class OpenReview(BaseModel):
    """A proposal that waits for a person."""

    decision_id: str
    decision: str
    at_ms: int
    deadline_ms: int | None
    verdict: dict[str, Any]
    context: dict[str, Any]
    route: str
    trigger: str
    event_id: str


class Row(BaseModel, Generic[StateT]):
    """One entity: state, version and what explains them."""

    state: StateT
    schema_version: int = 1
    version: int = 0
    as_of_ms: int = 0
    cause: Cause | None = None
    set_by: dict[str, Stamp] = Field(default_factory=dict)
    changes: History = NO_HISTORY
    seen: Seen = NOTHING_SEEN
    # Events at or before this time that are not in `seen` may be forgotten duplicates: they are refused.
    seen_floor_ms: int | None = None
    windows: dict[str, list[WindowItem]] = Field(default_factory=dict)
    related: dict[str, dict[str, dict[str, list[FieldValue]]]] = Field(default_factory=dict)
    linked: dict[str, str] = Field(default_factory=dict)
    timers: dict[str, Timer] = Field(default_factory=dict)
    reviews: dict[str, OpenReview] = Field(default_factory=dict)
    # Only in order `refold`.
    fold: Fold[StateT] | None = None
    # Facts that this row judged as their owner: new ones, and ones it had seen before (not counted in order `refold`,
    # where a row does not tell how its events came).
    admitted: int = 0
    duplicates: int = 0
    # How much each bound has thrown away since the row exists: bounds are visible.
    evicted: dict[str, int] = Field(default_factory=dict)

    def with_(self, **changes: Any) -> Self:
        """A shallow copy with `changes`, unvalidated: for the pure core, which only puts typed values in."""
        new = object.__new__(type(self))
        _set(new, "__dict__", self.__dict__ | changes)
        _set(new, "__pydantic_fields_set__", self.__pydantic_fields_set__)
        _set(new, "__pydantic_extra__", None)
        _set(new, "__pydantic_private__", None)
        return new

    def next_due_ms(self) -> int | None:
        """When the row's earliest timer is due."""
        return min(timer.due_ms for timer in self.timers.values()) if self.timers else None
