"""Refused records: the `quarantine` topic comes in; what each was and why, and the way back to the lanes, go out.

A record goes back as it came: key, bytes and headers, and the header `ms_redriven` that names the quarantine record.
Facts go to `raw`, where they are judged anew; the ids that rows remember make a second redrive a duplicate. A copy
that one of several entities could not take goes back to that entity alone, once: its owner has judged it already.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Literal

from schemas.event import ANSWERED, CLOCK, LINKED, Headers
from schemas.keys import quarantine_id
from schemas.quarantine import original_headers, read_quarantine
from schemas.record import Out, Placed
from streams import cluster
from streams.cluster import Seen
from streams.plan import Plan
from streams.topics import EVENTS, QUARANTINE, RAW, topic_name

REDRIVEN = "ms_redriven"
SHOWN_BYTES = 2000


class NotRedrivenError(Exception):
    """The record stays where it is; the message says why and what to do instead."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One refused record."""

    id: str
    reason: str
    field: str
    detail: str
    # Where it was refused.
    topic: str
    partition: int
    offset: int
    # When, by Kafka's clock.
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    # The quarantine record that this one was before it was redriven and refused again.
    redriven_from: str | None
    # The one that it became; only `entries` knows.
    refused_again: str | None = None

    @property
    def event_id(self) -> str | None:
        """The event's id, if a header gives it."""
        return self.header("ce_id")

    def header(self, name: str) -> str | None:
        """One original header as text."""
        found = dict(self.headers).get(name)
        return None if found is None else found.decode(errors="replace")

    @property
    def way(self) -> Literal["raw", "copy", "timer", "ours"]:
        """Which way back there is: none for a failed timer, and none for what Midstream itself sends."""
        if self.id != quarantine_id(self.topic, self.partition, self.offset):
            return "timer"
        if not self.topic.endswith(f".{EVENTS}"):
            return "raw"
        if self.header("ce_type") in (ANSWERED, LINKED, CLOCK):
            return "ours"
        # On `events` the key is the entity that reads, the subject the one that owns the fact.
        subject, key = self.header("ce_subject"), (self.key or b"").decode(errors="replace")
        return "copy" if subject is not None and subject != key else "raw"


def read(record: Placed) -> Quarantined | None:
    """What the quarantine record says; None when somebody else wrote it."""
    said = read_quarantine(record.headers)
    try:
        origin = said["topic"], int(said["partition"]), int(said["offset"])
        original = original_headers(record.headers)
        before = dict(original).get(REDRIVEN)
        return Quarantined(
            said["id"],
            said["reason"],
            said["field"],
            said["detail"],
            *origin,
            at_ms=record.timestamp,
            key=record.key,
            value=record.value,
            headers=original,
            redriven_from=None if before is None else before.decode(errors="replace"),
        )
    except (KeyError, ValueError):
        return None


async def entries(
    clients: Mapping[str, Any], plan: Plan, keep: Callable[[Quarantined], bool], seen: Seen | None = None
) -> list[Quarantined]:
    """The quarantined records that `keep` wants, oldest first."""
    found, again = [], dict[str, str]()
    async for entry in every(clients, plan, seen):
        if entry.redriven_from is not None:
            again[entry.redriven_from] = entry.id
        if keep(entry):
            found.append(entry)
    known = [replace(entry, refused_again=again.get(entry.id)) for entry in found]
    return sorted(known, key=lambda entry: (entry.at_ms, entry.topic, entry.partition, entry.offset))


async def every(
    clients: Mapping[str, Any], plan: Plan, seen: Seen | None = None
) -> AsyncIterator[Quarantined]:
    """Every quarantined record, partition by partition."""
    async for record in cluster.scan(clients, [topic_name(plan, QUARANTINE)], seen=seen):
        entry = read(record)
        if entry is not None:
            yield entry


def back(entry: Quarantined, body: bytes | None = None) -> Out:
    """`entry` as it goes back; with `body` instead of its own bytes.

    Raises:
        NotRedrivenError: there is no way back for it.
    """
    if entry.way == "timer":
        raise NotRedrivenError(
            f"{entry.id} is a timer that failed ({entry.field}), not a record: it has fired and will not again."
            " Mend the function; the next event of the entity is decided with it."
        )
    if entry.way == "ours":
        raise NotRedrivenError(
            f"{entry.id} is a {entry.header('ce_type')} that Midstream made itself: it would be refused again."
            " An answer is given anew with: midstream review approve|reject."
        )
    headers = [(name, value) for name, value in entry.headers if name != REDRIVEN]
    headers.append((REDRIVEN, entry.id.encode()))
    value = entry.value if body is None else body
    if entry.way == "raw":
        return Out(RAW, entry.key, value, headers)
    if body is not None:
        raise NotRedrivenError(
            f"{entry.id} is a copy of a fact that {entry.header('ce_subject')} has taken as it is: it cannot be given"
            " another body."
        )
    return Out(EVENTS, entry.key, value, headers, entry.partition)


async def redrive(
    clients: Mapping[str, Any], plan: Plan, chosen: Iterable[Quarantined], body: bytes | None = None
) -> list[tuple[Quarantined, str, int, int]]:
    """Send `chosen` back; returns each with the topic, partition and offset at which it now stands.

    Raises:
        NotRedrivenError: one of them cannot go back, or is a copy that has gone back before; nothing was sent.
    """
    outs = [(entry, back(entry, body)) for entry in chosen]
    for entry, out in outs:
        if out.topic == EVENTS and await went_back(clients, plan, entry):
            raise NotRedrivenError(
                f"{entry.id} has been redriven before: {entry.header('ce_subject')}'s copy would count twice."
            )
    written = await cluster.send(clients, plan, [out for _, out in outs])
    return [
        (entry, topic_name(plan, out.topic), *where)
        for (entry, out), where in zip(outs, written, strict=True)
    ]


async def went_back(clients: Mapping[str, Any], plan: Plan, entry: Quarantined) -> bool:
    """Whether a copy stands on its partition of `events` again, behind where it was refused."""
    topic, mark = topic_name(plan, EVENTS), (REDRIVEN, entry.id.encode())
    start = {(topic, entry.partition): entry.offset + 1}
    later = cluster.scan(clients, [topic], partition=entry.partition, start=start)
    async with aclosing(later):
        async for record in later:
            if mark in record.headers:
                return True
    return False


def shown(value: bytes | None, limit: int = SHOWN_BYTES) -> tuple[str, str]:
    """`value` for a terminal, and what was done to it: text if it is UTF-8, else hexadecimal, cut at `limit` bytes."""
    if value is None:
        return "", "no value (a tombstone)"
    part = value[:limit]
    cut = f"first {limit} of {len(value)} bytes" if len(value) > limit else f"{len(value)} bytes"
    try:
        text = part.decode() if len(value) <= limit else whole_characters(part)
    except UnicodeDecodeError:
        return part.hex(" "), f"{cut}, hexadecimal: not UTF-8"
    return printable(text), f"{cut}, UTF-8"


def whole_characters(part: bytes) -> str:
    """The text of bytes that may end within a character.

    Raises:
        UnicodeDecodeError: it is not UTF-8 even without its last three bytes.
    """
    for cut in range(3):
        try:
            return part[: len(part) - cut].decode()
        except UnicodeDecodeError:
            continue
    return part[: len(part) - 3].decode()


def printable(text: str) -> str:
    """`text` with what a terminal would obey, rather than show, as escapes; lines stay lines."""
    return "".join(
        char if char.isprintable() or char == "\n" else char.encode("unicode_escape").decode()
        for char in text
    )
