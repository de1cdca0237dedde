"""What a row only carries along, kept as the JSON text it is stored in: ids it has seen, changes it remembers.

A row is read and written a thousand times for every time that somebody looks into these. As objects they would be
most of a live row (some 200 of them, 13 kB) and every batch would walk over all of them to write the row; as text
they are a string or a few, copied into the row's JSON as they are.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Self

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema, from_json, to_json


def quoted(text: str) -> str:
    """`text` as a JSON string in which no quote stands for itself, so that `"` always ends it."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(f"\\u{ord(c):04x}" if c in '"\\' or c < " " else c for c in text) + '"'


class Sighting(NamedTuple):
    """One event id that a row remembers: a second one is a duplicate, or a conflict when the fingerprint differs."""

    time_ms: int
    fingerprint: int
    event_id: str


class Carried:
    """Base of what is kept as JSON text: read from a JSON array, written as one."""

    __slots__ = ()

    @classmethod
    def of(cls, entries: Iterable[Any]) -> Self:
        """From the entries of a JSON array."""
        raise NotImplementedError

    def entries(self) -> list[Any]:
        """The entries, decoded."""
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.entries() == other.entries()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.entries()})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """An array in JSON; in Python also the object itself."""

        def read(value: Any) -> Carried:
            return value if isinstance(value, cls) else cls.of(value)

        return core_schema.no_info_plain_validator_function(
            read,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.entries()),
        )


class Seen(Carried):
    """The ids of events that a row has seen, oldest first. Immutable."""

    __slots__ = ("count", "newest_ms", "oldest_ms", "text")

    def __init__(self, text: str = "", count: int = 0, oldest_ms: int = 0, newest_ms: int = 0) -> None:
        """Hold `count` entries of the form `,[time_ms,fingerprint,"id"]`."""
        self.text, self.count, self.oldest_ms, self.newest_ms = text, count, oldest_ms, newest_ms

    @classmethod
    def of(cls, entries: Iterable[Any]) -> Self:
        """From entries in the order of their times."""
        known = [Sighting(*entry) for entry in entries]
        if not known:
            return cls()
        text = "".join(f",[{time_ms},{mark},{quoted(id)}]" for time_ms, mark, id in known)
        return cls(text, len(known), known[0].time_ms, known[-1].time_ms)

    def entries(self) -> list[Sighting]:
        """Every entry, oldest first."""
        return [Sighting(*entry) for entry in from_json(f"[{self.text[1:]}]")]

    def __iter__(self) -> Iterator[str]:
        """The ids, oldest first."""
        return (entry.event_id for entry in self.entries())

    def __len__(self) -> int:
        return self.count

    def fingerprint_of(self, event_id: str) -> int | None:
        """The fingerprint remembered for `event_id`, or None."""
        # No id can look like this: a quote inside of one is escaped.
        end = self.text.find(f",{quoted(event_id)}]")
        return None if end < 0 else int(self.text[self.text.rindex(",", 0, end) + 1 : end])

    def with_(self, time_ms: int, fingerprint: int, event_id: str) -> Seen:
        """These and one more."""
        name = quoted(event_id)
        # Ids of one moment have an order, too, so that the text does not tell in which one they came.
        if self.count and (
            time_ms < self.newest_ms or (time_ms == self.newest_ms and name < self.newest_name())
        ):
            entries = self.entries()
            insort(entries, Sighting(time_ms, fingerprint, event_id), key=order_of)
            return Seen.of(entries)
        return Seen(
            f"{self.text},[{time_ms},{fingerprint},{name}]",
            self.count + 1,
            self.oldest_ms if self.count else time_ms,
            time_ms,
        )

    def newest_name(self) -> str:
        """The id of the newest, quoted."""
        return self.text[self.text.rindex(',"') + 1 : -1]

    def without_oldest(self) -> Seen:
        """These but the oldest."""
        if self.count < 2:
            return Seen()
        text = self.text[self.text.index('"],[') + 2 :]
        return Seen(text, self.count - 1, int(text[2 : text.index(",", 2)]), self.newest_ms)

    def without(self, entries: Iterable[Sighting]) -> Seen:
        """These but `entries`."""
        gone = set(entries)
        return Seen.of(entry for entry in self.entries() if entry not in gone)


def order_of(entry: Sighting) -> tuple[int, str]:
    """How the entries of `Seen` are sorted."""
    return entry.time_ms, quoted(entry.event_id)


class Change(NamedTuple):
    """What one event changed: field → (old, new)."""

    version: int
    time_ms: int
    event_id: str
    fields: dict[str, tuple[Any, Any]]


def change_text(version: int, time_ms: int, event_id: str, fields: str) -> str:
    """A change as `History` holds it; `fields` is JSON already, because it also goes to a topic."""
    return f"[{version},{time_ms},{quoted(event_id)},{fields}]"


class History(Carried):
    """The last changes of a row, oldest first. Immutable."""

    __slots__ = ("count", "text")

    def __init__(self, text: str = "", count: int = 0) -> None:
        """Hold `count` changes, a line each (JSON has no raw one): `[version,time_ms,"id",{field:[old,new]}]`."""
        self.text, self.count = text, count

    @classmethod
    def of(cls, entries: Iterable[Any]) -> Self:
        """From changes, or from the arrays that JSON has in their place."""
        changes = [Change(*entry) for entry in entries]
        texts = [change_text(c.version, c.time_ms, c.event_id, to_json(c.fields).decode()) for c in changes]
        return cls("\n".join(texts), len(texts))

    def entries(self) -> list[Change]:
        """Every change, oldest first; values as JSON has them."""
        return list(self)

    def __iter__(self) -> Iterator[Change]:
        """The changes, oldest first; values as JSON has them."""
        for version, time_ms, event_id, fields in from_json(f"[{self.listed()}]"):
            yield Change(
                version, time_ms, event_id, {name: (old, new) for name, (old, new) in fields.items()}
            )

    def __len__(self) -> int:
        return self.count

    def first(self, count: int) -> History:
        """The oldest `count` of these."""
        return History("\n".join(self.text.split("\n")[:count]), count) if count else History()

    def without_first(self, count: int) -> History:
        """These but the oldest `count`."""
        if count == self.count:
            return History()
        return History("\n".join(self.text.split("\n")[count:]), self.count - count) if count else self

    def listed(self) -> str:
        """The changes as they stand between the brackets of a JSON array."""
        return self.text.replace("\n", ",")

    def with_(self, text: str, limit: int) -> History:
        """These and one more, of which the newest `limit` stay."""
        if self.count < limit:
            return History(f"{self.text}\n{text}" if self.count else text, self.count + 1)
        if limit == 0:
            return History()
        kept = self.text
        for _ in range(self.count + 1 - limit):
            kept = kept[kept.find("\n") + 1 :] if "\n" in kept else ""
        return History(f"{kept}\n{text}" if kept else text, limit)
