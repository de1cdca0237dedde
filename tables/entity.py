"""A lane's rows: keys in, live rows out, and after a batch the bytes of every row that changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, TypeAdapter

from schemas.keys import entity_key
from schemas.lane import ENTITY, LaneRow
from schemas.row import Row, State, touched

# Rows kept decoded between batches. At a few kB a row this is some hundred MB at most.
LIVE_ROWS = 100_000

# The fields of a row that are JSON text in memory too.
CARRIED = {"changes", "seen"}

Read = Callable[[bytes], bytes | None]


class ChangedRow(NamedTuple):
    """One row after a batch, encoded once, and when its next timer is due (before and after)."""

    entity: str
    key: bytes
    value: bytes
    due_ms: int | None
    was_due_ms: int | None


class Rows:
    """The rows of one lane: decoded once, kept live, encoded once per batch in which they changed."""

    def __init__(self, states: Mapping[str, type[State]], read: Read, live: int = LIVE_ROWS) -> None:
        """Hold rows of the given entities.

        Args:
            states: entity → its state model.
            read: row key → stored bytes or None; RocksDB in a worker, a dict's `get` in a test.
            live: how many decoded rows are kept between batches.
        """
        self._read = read
        self._limit = live
        self._new: dict[str, Row[State]] = {name: new_row(state) for name, state in states.items()}
        codecs: dict[str, TypeAdapter[Any]] = {name: row_codec(state) for name, state in states.items()}
        codecs[ENTITY] = TypeAdapter(LaneRow)
        # Looked up once: an adapter's own attributes are found anew at every access.
        self._read_json = {name: codec.validator.validate_json for name, codec in codecs.items()}
        self._to_json = {name: codec.serializer.to_json for name, codec in codecs.items()}
        self._live: dict[bytes, Any] = {}
        # Changed in this batch: row key → entity, and the due time it had before.
        self._dirty: dict[bytes, tuple[str, int | None]] = {}

    def get(self, entity: str, key: str) -> Row[State]:
        """The row of `entity:key`; a new one when there is none yet."""
        return self.at(entity, entity_key(entity, key).encode())

    def at(self, entity: str, row_key: bytes) -> Row[State]:
        """`get` for who has the row's key at hand."""
        row: Row[State] | None = self._live.get(row_key)
        if row is None:
            stored = self._read(row_key)
            if stored is None:
                row = self._new[entity]
            else:
                row = self._read_json[entity](stored)
                touched(row.state, frozenset())
            self._live[row_key] = row
        return row

    def put(self, entity: str, key: str, row: Row[State]) -> None:
        """Replace the row of `entity:key`."""
        self.put_at(entity, entity_key(entity, key).encode(), row)

    def put_at(self, entity: str, row_key: bytes, row: Row[State]) -> None:
        """`put` for who has the row's key at hand."""
        if row_key not in self._dirty:
            before: Row[State] | None = self._live.get(row_key)
            self._dirty[row_key] = (entity, None if before is None else before.next_due_ms())
        self._live[row_key] = row

    def lane(self, key: str) -> LaneRow:
        """The lane's own row."""
        row_key = entity_key(ENTITY, key).encode()
        row: LaneRow | None = self._live.get(row_key)
        if row is None:
            stored = self._read(row_key)
            row = LaneRow() if stored is None else LaneRow.model_validate_json(stored)
            self._live[row_key] = row
        return row

    def put_lane(self, key: str, row: LaneRow) -> None:
        """Replace the lane's own row."""
        row_key = entity_key(ENTITY, key).encode()
        self._dirty.setdefault(row_key, (ENTITY, None))
        self._live[row_key] = row

    def size_bytes(self, entity: str, row_key: bytes) -> int:
        """How large the row would be if it were written now."""
        return len(encoded(self.at(entity, row_key), self._to_json[entity]))

    def start_over(self) -> None:
        """Forget what changed since `settle`: the stored rows hold again."""
        for row_key in self._dirty:
            del self._live[row_key]
        self._dirty.clear()

    def changed(self) -> list[ChangedRow]:
        """The rows that changed since `settle`, encoded."""
        changed = []
        for row_key, (entity, was_due_ms) in self._dirty.items():
            row: BaseModel = self._live[row_key]
            due_ms = row.next_due_ms() if isinstance(row, Row) else None
            value = encoded(row, self._to_json[entity])
            changed.append(ChangedRow(entity, row_key, value, due_ms, was_due_ms))
        return changed

    def settle(self) -> None:
        """What has changed is going to be stored; live rows beyond the limit are let go."""
        if len(self._live) > self._limit:
            # Oldest first: a dict keeps the order in which rows were first read. Rows that have just changed stay:
            # the database hears of them only after the commit, and gives the old ones until then.
            unchanged = [row_key for row_key in self._live if row_key not in self._dirty]
            for row_key in unchanged[: len(self._live) - self._limit // 2]:
                del self._live[row_key]
        self._dirty.clear()


def encoded(row: BaseModel, to_json: Callable[..., bytes]) -> bytes:
    """The JSON of a row; what it only carries along is JSON already and is put in as it is."""
    if not isinstance(row, Row):
        return to_json(row)
    head = to_json(row, exclude=CARRIED)
    tail = f',"changes":[{row.changes.listed()}],"seen":[{row.seen.text[1:]}]}}'
    return head[:-1] + tail.encode()


def row_codec(state: type[State]) -> TypeAdapter[Any]:
    """Reader and writer of the rows of an entity with `state`."""
    return TypeAdapter(Row[state])  # type: ignore[valid-type] # a model made at run time


def new_row(state: type[State]) -> Row[State]:
    """The row of an entity of which nothing has been heard."""
    return Row[state](state=state())  # type: ignore[valid-type] # a model made at run time
