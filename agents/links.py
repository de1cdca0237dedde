"""Links: a row and what an event did to it come in, what linked entities must hear goes out; there it comes in, and the
row that holds it goes out.

The side that holds the other's key tells (`tell`); the side that the key names holds relations (`relate`).
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from agents.state import AnyRow, LinkRules, Reduced, StateRules, count_evicted, newest_ms, plain
from schemas.event import Envelope, Linked
from schemas.row import FieldValue, Stamp


def relate(rules: StateRules, row: AnyRow, envelope: Envelope, linked: Linked, now_ms: int | None) -> AnyRow:
    """Note what a related entity says about itself; each field keeps what was said, by time, inside the grace."""
    link = rules.links_in[linked.link]
    held = dict(row.related.get(linked.link, {}))
    if linked.removed:
        held.pop(linked.key, None)
        return row.with_(related=row.related | {linked.link: held})
    fields = dict(held.get(linked.key, {}))
    horizon_ms = (newest_ms(row, envelope) if now_ms is None else now_ms) - rules.grace_ms
    told = [
        (name, FieldValue(envelope.time_ms, linked.event_id, value)) for name, value in linked.fields.items()
    ]
    for name, value in [*told, *linked.standing.items()]:
        # What is said again of the same event corrects what was said before.
        said = [entry for entry in fields.get(name, ()) if entry[:2] != value[:2]]
        insort(said, value, key=lambda entry: entry[:2])
        # A default holds until the first event that set the field, also when that one is heard of later.
        said = [entry for i, entry in enumerate(said) if i == 0 or entry.event_id]
        # The newest value at or before the horizon is still true there; older ones are not asked for again.
        first = max((i for i, entry in enumerate(said) if entry.time_ms <= horizon_ms), default=0)
        fields[name] = said[first:]
    held[linked.key] = fields
    evicted = row.evicted
    if len(held) > link.limit:
        heard_ms, oldest = min((max(said[-1].time_ms for said in held[key].values()), key) for key in held)
        # One source may run far ahead of another: what an instant inside the grace can still see stays.
        if heard_ms <= horizon_ms:
            del held[oldest]
            evicted = count_evicted(row.evicted, linked.link, 1)
    return row.with_(
        related=row.related | {linked.link: held},
        version=row.version + 1,
        as_of_ms=newest_ms(row, envelope),
        evicted=evicted,
    )


@dataclass(frozen=True, slots=True)
class LinkOut:
    """A message to the entity `target:key`."""

    target: str
    key: str
    linked: Linked


def tell(rules: StateRules, key: str, reduced: Reduced) -> tuple[AnyRow, list[LinkOut]]:
    """What the linked entities must hear after an event, and the row that remembers whom it told."""
    row, cause, out = reduced.row, reduced.row.cause, list[LinkOut]()
    assert cause is not None, "an event was just folded in"
    for link in rules.links_out:
        # An empty key names nobody, as at the door.
        target = getattr(row.state, link.on) or None
        before = row.linked.get(link.name)
        if before is None and target is None:
            continue
        if before is not None and before != target:
            gone = Linked(link=link.name, key=key, event_id=cause.event_id, fields={}, removed=True)
            out.append(LinkOut(link.target, before, gone))
            row = row.with_(linked={name: to for name, to in row.linked.items() if name != link.name})
        if target is None:
            continue
        carried = link.carries.model_fields
        fields = {name: plain(value) for name, value in reduced.given.items() if name in carried}
        stands = dict[str, FieldValue]()
        if before != target:
            row = row.with_(linked=row.linked | {link.name: target})
            stands = standing(rules, link, row, Stamp(cause.time_ms, cause.event_id), fields.keys())
        # What a late event changed stands since the newest one: it takes the place of what that one was told with.
        stands |= {
            name: FieldValue(cause.time_ms, cause.event_id, plain(value))
            for name, value in reduced.corrected.items()
            if name in carried
        }
        if fields or stands:
            said = Linked(link=link.name, key=key, event_id=cause.event_id, fields=fields, standing=stands)
            out.append(LinkOut(link.target, target, said))
    return row, out


def standing(
    rules: StateRules, link: LinkRules, row: AnyRow, stamp: Stamp, given: AbstractSet[str]
) -> dict[str, FieldValue]:
    """What `link` carries besides the `given` fields when the event of `stamp` begins it.

    Each field has the stamp of the event that set it, also a given one that a newer event had set already. What
    stood before that, when a late event begins the link, is no longer known here.
    """
    # Only order `latest` stamps fields: elsewhere what stands, stands as of this event.
    unset = Stamp(stamp.time_ms, "") if rules.order == "latest" else stamp
    stamps = {name: row.set_by.get(name, unset) for name in link.carries.model_fields}
    return {
        name: FieldValue(*by, plain(getattr(row.state, name)))
        for name, by in stamps.items()
        if name not in given or by not in (stamp, unset)
    }
