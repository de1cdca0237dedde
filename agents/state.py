"""State: a row and an event come in; the next row, its changes and what related entities must hear go out."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from pydantic_core import to_json, to_jsonable_python

from agents.workflow import WorkflowRules, follow
from schemas.carried import Seen, change_text
from schemas.context import Summary
from schemas.errors import wrong_return
from schemas.event import Envelope, Event
from schemas.keys import fingerprint
from schemas.quarantine import Reason, Refusal
from schemas.row import Cause, FoldOrder, Row, Stamp, State, WindowItem, fields_of, settled
from schemas.window import Item

AnyRow = Row[State]
NO_LIMIT = 1 << 62
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class WindowRules:
    """What a window keeps, and for how long before an instant."""

    name: str
    item: type[Item]
    within_ms: int
    limit: int
    # Event type → the function that makes an item of it, or None.
    take: Mapping[str, Callable[[Any], Item | None]]


@dataclass(frozen=True, slots=True)
class LinkRules:
    """What an entity tells another entity about itself, and how the other finds it."""

    name: str
    target: str
    on: str
    carries: type[Summary]
    # How many related entities the other side holds; the one heard of longest ago leaves first.
    limit: int


@dataclass(frozen=True, slots=True)
class StateRules:
    """All that the state layer needs to know of one entity."""

    entity: str
    state: type[State]
    order: FoldOrder
    reducers: Mapping[str, Callable[[Any, Any], State]]
    windows: tuple[WindowRules, ...] = ()
    links_out: tuple[LinkRules, ...] = ()
    links_in: Mapping[str, LinkRules] = field(default_factory=dict)
    dedupe_within_ms: int = 7 * 24 * 3600 * 1000
    dedupe_limit: int = 16
    history_limit: int = 5
    # How late an event may come and still be right in windows and relations as of an earlier instant, and in order
    # `refold` in the state.
    grace_ms: int = 3600 * 1000
    # Order `refold`: how many events inside the grace are kept, to be folded in again.
    tail_limit: int = 0
    workflow: WorkflowRules | None = None


class Admitted(NamedTuple):
    """A new event: what the row remembers of it, whatever else it does to the row."""

    changes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Duplicate:
    """The row has seen this event: it is counted, unless the order is `refold`, and nothing else happens."""

    row: AnyRow


class Restated(NamedTuple):
    """Order `refold`: what another event changes, now that an earlier one has come late."""

    cause: Cause
    # As in `Reduced`.
    changed: str
    said: Mapping[str, Any]


class Reduced(NamedTuple):
    """What one event did to a row."""

    row: AnyRow
    # The fields that changed, in JSON: {field: [old, new]}; empty when none did.
    changed: str
    # The fields the event set, with their values, whether or not a newer event had set them already.
    given: Mapping[str, Any]
    # Those of them that did not change now: they had the value already, or a newer event had set them. Without them
    # nobody could tell later what was so at which time. In order `arrival` only of an event that came late, in order
    # `refold` of none: what else is said again was so all along.
    said: Mapping[str, Any] = NOTHING
    # Order `refold`, for an event that came late: the fields that are different now because of it,
    corrected: Mapping[str, Any] = NOTHING
    # and what the events after it change instead.
    restated: tuple[Restated, ...] = ()


def admit(rules: StateRules, row: AnyRow, envelope: Envelope) -> Admitted | Duplicate | Refusal:
    """Remember the event's id, or recognise it.

    The row of the owning entity judges every event once; copies for other entities come from that row's lane.
    What has been forgotten is refused rather than risked: an event no newer than the newest forgotten id.
    """
    # Type and source belong to it: another fact about the same key may well have the same body.
    mark = fingerprint(envelope.data, kind_mark(envelope.type, envelope.source))
    known = row.seen.fingerprint_of(envelope.id)
    if known is not None:
        if known == mark:
            if rules.order == "refold":
                return Duplicate(row)
            return Duplicate(row.with_(duplicates=row.duplicates + 1))
        return Refusal(Reason.ID_CONFLICT, "id", f"{envelope.id!r} was seen with another body")
    floor = row.seen_floor_ms
    if floor is not None and envelope.time_ms <= floor:
        return Refusal(Reason.BEYOND_DEDUPE, "time", "older than the ids that the row remembers")
    seen = row.seen.with_(envelope.time_ms, mark, envelope.id)
    oldest_ms = newest_ms(row, envelope) - rules.dedupe_within_ms
    if seen.count <= rules.dedupe_limit and seen.oldest_ms >= oldest_ms:
        return Admitted({"seen": seen, "admitted": row.admitted + 1})
    kept, floor = forget(seen, envelope, rules.dedupe_limit, oldest_ms, floor)
    changes: dict[str, Any] = {"seen": kept, "seen_floor_ms": floor, "admitted": row.admitted + 1}
    if kept is not seen:
        changes["evicted"] = count_evicted(row.evicted, "seen", seen.count - kept.count)
    return Admitted(changes)


@lru_cache(maxsize=1024)
def kind_mark(type: str, source: str) -> int:
    """Where the fingerprint of an event of this type and source begins."""
    return fingerprint(f"{type}\n{source}\n".encode())


def forget(
    seen: Seen, envelope: Envelope, limit: int, oldest_ms: int, floor: int | None
) -> tuple[Seen, int | None]:
    """`seen` without the ids that are too old or too many, and the time up to which ids are now forgotten.

    The event's own id stays, also when it is the oldest: its repetition often follows at once.
    """
    while seen.count > limit or seen.oldest_ms < oldest_ms:
        time_ms = seen.oldest_ms
        if time_ms == envelope.time_ms:
            return forget_around(seen, envelope, limit, oldest_ms, floor)
        seen = seen.without_oldest()
        floor = time_ms if floor is None else max(floor, time_ms)
    return seen, floor


def forget_around(
    seen: Seen, envelope: Envelope, limit: int, oldest_ms: int, floor: int | None
) -> tuple[Seen, int | None]:
    """`forget`, when the event's own id is among the oldest."""
    surplus = seen.count - limit
    gone = [
        entry
        for rank, entry in enumerate(seen.entries())
        if entry.event_id != envelope.id and (rank < surplus or entry.time_ms < oldest_ms)
    ]
    floors = [entry.time_ms for entry in gone] + ([] if floor is None else [floor])
    return seen.without(gone), max(floors, default=None)


def newest_ms(row: AnyRow, envelope: Envelope) -> int:
    """The row's `as_of_ms` with `envelope`. A row that has heard nothing yet has none: 0 would be 1970."""
    return max(row.as_of_ms, envelope.time_ms) if row.version else envelope.time_ms


def count_evicted(evicted: Mapping[str, int], bound: str, count: int) -> dict[str, int]:
    """A row's eviction counters with `count` more at `bound`."""
    return {**evicted, bound: evicted.get(bound, 0) + count}


def reduce(
    rules: StateRules, row: AnyRow, envelope: Envelope, event: Event, admitted: Admitted | None = None
) -> Reduced:
    """Fold `event` into the row's state; `admitted` is what the row remembers of it, where it was judged.

    Order `latest`: each field keeps the value of the newest event that set it (ties: the greater event id), so
    any arrival order of events that only set fields gives the same state. A reducer that computes a field from
    its old value needs order `arrival`, or a window.

    Raises:
        WrongReturn: the reducer returned something else than the declared state.
        IllegalTransition: the event takes a step that the entity's workflow does not have.
    """
    reducer = rules.reducers.get(envelope.type)
    old = row.state
    new = old if reducer is None else reducer(old, event)
    if type(new) is not rules.state:
        assert reducer is not None, "a row holds the declared state"
        raise wrong_return(reducer, rules.state.__name__, new)
    version = row.version + 1
    now: dict[str, Any] = {} if admitted is None else admitted.changes
    now["version"] = version
    now["as_of_ms"] = newest_ms(row, envelope)
    now["cause"] = Cause(envelope.id, envelope.type, envelope.source, envelope.time_ms)
    if new is old:
        return Reduced(row.with_(**now), "", {})
    before = fields_of(old)
    given = kept = given_fields(before, new)
    if rules.order == "latest" and given:
        stamp = Stamp(envelope.time_ms, envelope.id)
        set_by = row.set_by
        kept = {name: value for name, value in given.items() if name not in set_by or set_by[name] <= stamp}
        now["set_by"] = set_by | dict.fromkeys(kept, stamp)
        if len(kept) < len(given):
            new = old.evolve(**kept)
    if rules.workflow is not None:
        follow(rules.workflow, old, new, envelope.type, event)
    now["state"] = settled(new)
    fields = {name: (was, value) for name, value in kept.items() if (was := before[name]) != value}
    tells = rules.order == "latest" or (rules.order == "arrival" and envelope.time_ms < now["as_of_ms"])
    said = {name: value for name, value in given.items() if name not in fields} if tells else NOTHING
    if not fields:
        return Reduced(row.with_(**now), "", given, said)
    changed = to_json(fields).decode()
    # In order `refold` a change may have to be folded again: `refold.settle` sees to the bound.
    history, limit = row.changes, NO_LIMIT if rules.order == "refold" else rules.history_limit
    now["changes"] = history.with_(change_text(version, envelope.time_ms, envelope.id, changed), limit)
    if history.count >= limit:
        evicted = now.get("evicted", row.evicted)
        now["evicted"] = count_evicted(evicted, "changes", 1 + history.count - limit)
    return Reduced(row.with_(**now), changed, given, said)


def given_fields(before: Mapping[str, Any], new: State) -> dict[str, Any]:
    """The fields that a reducer gave: those it named and, if it made a state from scratch, those it so reset."""
    after, named = fields_of(new), new.model_fields_set
    if len(named) == len(after):
        return dict(after)
    given = {name: value for name, value in after.items() if name in named}
    if {**before, **given} == after:
        return given
    return {name: value for name, value in after.items() if name in named or value != before[name]}


def plain(value: Any) -> Any:
    """`value` as JSON has it; the common types pass untouched."""
    return value if value is None or isinstance(value, (str, int, float, bool)) else to_jsonable_python(value)


def collect(rules: StateRules, row: AnyRow, envelope: Envelope, event: Event, now_ms: int | None) -> AnyRow:
    """Put the event into the windows that take it, and let go of what no window can see any more."""
    now_ms = row.as_of_ms if now_ms is None else now_ms
    for window in rules.windows:
        take = window.take.get(envelope.type)
        item = None if take is None else take(event)
        if take is None or item is None:
            # What it holds depends on how far time has come, and not on when it was last given something.
            if held := row.windows.get(window.name):
                kept = prune(held, window, rules, now_ms)
                row = row if kept is held else row.with_(windows=row.windows | {window.name: kept})
            continue
        if type(item) is not window.item:
            raise wrong_return(take, f"{window.item.__name__} or None", item)
        entries = list(row.windows.get(window.name, ()))
        insort(
            entries,
            WindowItem(envelope.time_ms, envelope.id, item.model_dump(mode="json")),
            key=lambda e: e[:2],
        )
        kept = prune(entries, window, rules, now_ms)
        surplus = len(kept) - window.limit
        row = row.with_(
            windows=row.windows | {window.name: kept[surplus:] if surplus > 0 else kept},
            evicted=count_evicted(row.evicted, window.name, surplus) if surplus > 0 else row.evicted,
        )
    return row


def prune(entries: list[WindowItem], window: WindowRules, rules: StateRules, now_ms: int) -> list[WindowItem]:
    """The entries that an instant not older than the grace can still see."""
    horizon_ms = now_ms - rules.grace_ms - window.within_ms
    return entries if entries[0].time_ms > horizon_ms else [e for e in entries if e.time_ms > horizon_ms]


def expire(rules: StateRules, row: AnyRow, now_ms: int) -> AnyRow:
    """The row once time has come to `now_ms`: without what no window can see any more."""
    held = row.windows
    for window in rules.windows:
        entries = held.get(window.name)
        kept = prune(entries, window, rules, now_ms) if entries else entries
        if kept is not entries:
            held = held | {window.name: kept or []}
    return row if held is row.windows else row.with_(windows=held)
