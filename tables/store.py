"""The door to RocksDB: one database per lane; rows, timers and changelog offsets in, the same after a crash out.

Everything of one batch goes in with one WriteBatch, so a database is always exactly some committed prefix.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from struct import Struct

from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch

from tables.entity import ChangedRow

ROW, TIMER, OFFSET = b"r", b"t", b"o"
_NUMBER = Struct(">q")

# One cache for every lane of the process: twelve lanes with a cache each would hold twelve times the memory.
BLOCK_CACHE_BYTES = 256 << 20
WRITE_BUFFER_BYTES = 32 << 20


class StoreError(Exception):
    """The lane's database cannot be used; the message says which folder and what to do."""


class Store:
    """A lane's database."""

    _cache: Cache | None = None

    def __init__(self, folder: Path) -> None:
        """Open, or create, the database in `folder`.

        Raises:
            StoreError: another process holds it, or it is damaged.
        """
        if Store._cache is None:
            Store._cache = Cache(BLOCK_CACHE_BYTES)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_max_write_buffer_number(2)
        table = BlockBasedOptions()
        table.set_block_cache(Store._cache)
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        self.folder = folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._db = Rdict(str(folder), options, access_type=AccessType.read_write())
        except Exception as error:  # rocksdict raises bare Exception
            raise StoreError(
                f"cannot open the lane's database {folder}: {error}. If another worker runs, stop it; if the "
                f"folder is damaged, delete it: the lane restores it from its changelog."
            ) from error

    def get(self, key: bytes) -> bytes | None:
        """The stored row `key`.

        Raises:
            StoreError: the part of the database that holds it is damaged.
        """
        try:
            value: bytes | None = self._db.get(ROW + key)
        except Exception as error:  # rocksdict raises bare Exception
            raise self._damaged(error) from error
        return value

    def offsets(self) -> dict[str, int]:
        """Changelog topic → the offset after the last record that is in the database."""
        return {key[1:].decode(): _NUMBER.unpack(value)[0] for key, value in self._scan(OFFSET)}

    def timers(self) -> Iterator[tuple[int, str, str]]:
        """Every (due_ms, entity, key) in the index, stale ones included."""
        for key, _ in self._scan(TIMER):
            (due_ms,) = _NUMBER.unpack(key[1:9])
            entity, _, name = key[9:].decode().partition(":")
            yield due_ms, entity, name

    def rows(self) -> Iterator[tuple[bytes, bytes]]:
        """Every (row key, row), in key order."""
        return ((key[1:], value) for key, value in self._scan(ROW))

    def _scan(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every key with `prefix`, and its value. `Rdict.items` would end without a word at the first damaged block."""
        found = self._db.iter()
        found.seek(prefix)
        while found.valid():
            key, value = found.key(), found.value()
            # Raw mode: keys and values are bytes, whatever rocksdict's own annotation allows.
            assert isinstance(key, bytes)
            if not key.startswith(prefix):
                return
            yield key, value
            found.next()
        try:
            found.status()
        except Exception as error:  # rocksdict raises bare Exception
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> StoreError:
        return StoreError(
            f"cannot read the lane's database {self.folder}: {error}. If it is damaged, delete the folder: "
            f"the lane restores it from its changelog."
        )

    def write(self, changed: Iterable[ChangedRow], offsets: Mapping[str, int]) -> None:
        """Write the rows of one committed batch and the changelog offsets after it, in one step."""
        batch = WriteBatch(raw_mode=True)
        for row in changed:
            batch.put(ROW + row.key, row.value)
            if row.was_due_ms != row.due_ms:
                if row.was_due_ms is not None:
                    batch.delete(timer_key(row.was_due_ms, row.key))
                if row.due_ms is not None:
                    batch.put(timer_key(row.due_ms, row.key), b"")
        self._commit(batch, offsets)

    def restore(
        self, rows: Mapping[bytes, tuple[bytes | None, int | None]], offsets: Mapping[str, int]
    ) -> None:
        """Write restored rows: key → (row or None for a deleted one, due time). Older due times turn stale."""
        batch = WriteBatch(raw_mode=True)
        for key, (value, due_ms) in rows.items():
            if value is None:
                batch.delete(ROW + key)
                continue
            batch.put(ROW + key, value)
            if due_ms is not None:
                batch.put(timer_key(due_ms, key), b"")
        self._commit(batch, offsets)

    def _commit(self, batch: WriteBatch, offsets: Mapping[str, int]) -> None:
        for topic, offset in offsets.items():
            batch.put(OFFSET + topic.encode(), _NUMBER.pack(offset))
        self._db.write(batch)

    def close(self) -> None:
        """Flush and close; the folder can be opened again at once."""
        self._db.close()


def timer_key(due_ms: int, key: bytes) -> bytes:
    """The index key of a timer: ordered by due time."""
    return TIMER + _NUMBER.pack(due_ms) + key
