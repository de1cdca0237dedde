"""Order `refold`: a row and an event, perhaps a late one, come in; the row that the order of time makes goes out.

The row keeps the events of the last while, the grace, whole: its tail. A late one is sorted in, and the tail is folded
again from the state before it. What the grace has passed by is settled and leaves the tail. So any order of arrival
inside the grace gives the same row, to the byte: events stand in the order (time, id), and cause, history and the
numbers in it follow from that order alone.

In order of arrival an event costs two folds, one now and one when it is settled; a late one costs the whole tail.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from pydantic_core import from_json

from agents.state import Admitted, AnyRow, Reduced, Restated, StateRules, count_evicted, newest_ms, reduce
from schemas.event import Envelope, Event
from schemas.quarantine import Reason, Refusal
from schemas.row import Fold, Kept, State, fields_of, settled

# Event type and body → the event.
Read = Callable[[str, str], Event]


def late(rules: StateRules, row: AnyRow, envelope: Envelope) -> Refusal | None:
    """Why an event that the row has not seen (`state.admit`) comes too late to be folded in, if it does."""
    if row.fold is None:
        return None
    newest = newest_of(row.fold)
    horizon_ms, last = newest - rules.grace_ms, row.fold.cause
    if envelope.time_ms > horizon_ms and (
        last is None or (envelope.time_ms, envelope.id) > (last.time_ms, last.event_id)
    ):
        return None
    detail = f"{newest - envelope.time_ms} ms older than the newest event; the grace is {rules.grace_ms} ms"
    if envelope.time_ms > horizon_ms:
        detail += f", but only the last {rules.tail_limit} events of it are kept"
    return Refusal(Reason.BEYOND_GRACE, "time", detail)


def newest_of(held: Fold[Any]) -> int:
    """The time of the newest event. Not the row's `as_of_ms`: what relations tell has times of its own."""
    last = held.tail[-1] if held.tail else held.cause
    assert last is not None, "a fold holds an event"
    return last.time_ms


def fold(
    rules: StateRules, row: AnyRow, envelope: Envelope, event: Event, admitted: Admitted | None, read: Read
) -> Reduced:
    """Fold an event that is not too late (`late`) in at its place.

    Raises:
        WrongReturn: a reducer returned something else than the declared state.
    """
    held = row.fold or fold_of(rules.state)(state=rules.state())
    entry = Kept(envelope.time_ms, envelope.id, envelope.type, envelope.source, False, envelope.data.decode())
    place = bisect(held.tail, entry[:2], key=lambda kept: kept[:2])
    tail = [*held.tail[:place], entry, *held.tail[place:]]
    now = row.with_(**({} if admitted is None else admitted.changes))
    if place == len(held.tail):
        number = held.version + place
        reduced = reduce(rules, now.with_(version=number), envelope, event)
        tail[place] = entry._replace(changed=bool(reduced.changed))
    else:
        reduced = again(rules, now, held, tail, place, read)
    # Relations count, too, and have times.
    whole = reduced.row.with_(version=row.version + 1, as_of_ms=newest_ms(row, envelope))
    return reduced._replace(row=settle(rules, whole, held, tail, read))


@lru_cache(maxsize=256)
def fold_of(state: type[State]) -> type[Fold[Any]]:
    """The model of what an entity with `state` keeps."""
    return Fold[state]  # type: ignore[valid-type] # a model made at run time


def again(
    rules: StateRules, row: AnyRow, held: Fold[Any], tail: list[Kept], place: int, read: Read
) -> Reduced:
    """What the row becomes when all of `tail`, with a late event at `place`, is folded anew.

    Each entry then says whether it changed a field; those that now change something else are restated.
    """
    now = row.with_(
        state=settled(held.state),
        version=held.version,
        cause=held.cause,
        changes=row.changes.first(held.lines),
    )
    # Of the whole tail: an event's own line in the history is kept until it is settled.
    stood = {change.event_id: change.fields for change in row.changes}
    own, restated = "", list[Restated]()
    for number, kept in enumerate(tail):
        # Its body has been judged when it came.
        envelope = Envelope(kept.event_id, kept.type, kept.source, kept.time_ms, "", b"")
        reduced = reduce(rules, now, envelope, read(kept.type, kept.data))
        now, tail[number] = reduced.row, kept._replace(changed=bool(reduced.changed))
        if number == place:
            own = reduced.changed
        elif number > place:
            restated += restatement(now, kept, stood.get(kept.event_id, {}), reduced.changed)
    was, after = fields_of(row.state), fields_of(now.state)
    corrected = {name: value for name, value in after.items() if value != was[name]}
    return Reduced(now, own, {}, corrected=corrected, restated=tuple(restated))


def restatement(row: AnyRow, kept: Kept, stood: Mapping[str, Any], changed: str) -> list[Restated]:
    """What is to be said anew of `kept`, whose history line was `stood` and is `changed` in `row`: one, or nothing."""
    stands: Mapping[str, Any] = from_json(changed) if changed else {}
    if {name: list(pair) for name, pair in stood.items()} == stands:
        return []
    after = fields_of(row.state)
    # What it no longer changes is as it was before it.
    said = {name: after[name] for name in stood if name not in stands}
    return [Restated(kept.cause, changed, said)]


def settle(rules: StateRules, row: AnyRow, held: Fold[Any], tail: list[Kept], read: Read) -> AnyRow:
    """The row with its tail, without what the grace has passed by or what is too much."""
    horizon_ms = tail[-1].time_ms - rules.grace_ms
    old = bisect(tail, horizon_ms, key=lambda kept: kept.time_ms)
    surplus = max(0, len(tail) - old - rules.tail_limit)
    done = tail[: old + surplus]
    if not done:
        return row.with_(fold=held.model_copy(update={"tail": tail}))
    state = settled(held.state)
    for kept in done:
        reducer = rules.reducers.get(kept.type)
        if reducer is not None:
            state = settled(reducer(state, read(kept.type, kept.data)))
    last = done[-1]
    lines = held.lines + sum(kept.changed for kept in done)
    gone = max(0, lines - rules.history_limit)
    evicted = row.evicted
    if gone:
        evicted = count_evicted(evicted, "changes", gone)
    if surplus:
        evicted = count_evicted(evicted, "tail", surplus)
    kept_on = held.model_copy(
        update={
            "state": state,
            "version": held.version + len(done),
            "cause": last.cause,
            "lines": lines - gone,
            "tail": tail[len(done) :],
        }
    )
    return row.with_(fold=kept_on, changes=row.changes.without_first(gone), evicted=evicted)
