"""The door to RocksDB: one database per lane; rows, timers and changelog offsets in, the same after a crash out.

Everything of one batch goes in with one WriteBatch, and RocksDB brings its buffers to disk whole and in order: what is
on disk is always exactly some committed prefix. The changelog is its log, so RocksDB keeps none of its own (which would
be two thirds of a write, measured): after a crash, what stood in a buffer is read from the changelog again.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from struct import Struct

from rocksdict import AccessType, BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteOptions

from tables.entity import ChangedRow

ROW, TIMER, OFFSET, LIFE = b"r", b"t", b"o", b"l"
_NUMBER = Struct(">q")

# One cache for every lane of the process: twelve lanes with a cache each would hold twelve times the memory.
BLOCK_CACHE_BYTES = 256 << 20
# Rows are put where they belong in a sorted buffer: the smaller, the faster (a restore by a fifth, measured).
WRITE_BUFFER_BYTES = 16 << 20
# What RocksDB says when the disk, and not what stands on it, is the reason: ENOSPC, EDQUOT, EFBIG (setrlimit).
FULL = ("No space left on device", "Disk quota exceeded", "File too large")
# Neither is the folder at fault in these cases: another process has it, or this one may not have it.
KEPT_OUT = (
    "/LOCK: ",
    "lock hold by current process",
    "Permission denied",
    "Operation not permitted",
    "Read-only file system",
    "Too many open files",
    "Not a directory",
)


class StoreError(Exception):
    """The lane's database cannot be used; the message says which folder and what to do."""


class FullError(StoreError):
    """The disk under the database is full."""


class DamagedError(StoreError):
    """What stands in the database's folder is not what was written. The changelog has it all."""


def trouble(what: str, folder: Path, error: Exception) -> StoreError:
    """The error for what RocksDB said of `folder` when it was to `what` ("open", "read", "write", "close")."""
    said = str(error)
    where = f"cannot {what} the lane's database {folder}: {said}"
    if any(sign in said for sign in FULL):
        free_mb = shutil.disk_usage(existing(folder)).free >> 20
        return FullError(
            f"{where}. The disk has {free_mb:,} MB free. Make room, or raise the limit on file sizes, and start again: "
            f"what is missing comes from the changelog, nothing is lost."
        )
    if any(sign in said for sign in KEPT_OUT) or isinstance(error, OSError):
        return StoreError(f"{where}. If another worker runs, stop it; else let this user write there.")
    return DamagedError(f"{where}. It is damaged; the lane restores it from its changelog")


def existing(folder: Path) -> Path:
    """`folder`, or what there is of the way to it."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def set_aside(folder: Path) -> Path:
    """Move a damaged database out of the way, in place of the one before it; returns where it is now."""
    aside = folder.with_name(f"damaged-{folder.name}")
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    return aside


class Store:
    """A lane's database."""

    _cache: Cache | None = None

    def __init__(self, folder: Path) -> None:
        """Open, or create, the database in `folder`.

        Raises:
            DamagedError: it is damaged.
            FullError: the disk is full.
            StoreError: another process holds it, or the folder cannot be made.
        """
        if Store._cache is None:
            Store._cache = Cache(BLOCK_CACHE_BYTES)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_write_buffer_size(WRITE_BUFFER_BYTES)
        options.set_max_write_buffer_number(3)
        table = BlockBasedOptions()
        table.set_block_cache(Store._cache)
        table.set_bloom_filter(10, False)
        options.set_block_based_table_factory(table)
        self.folder = folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            self._db = Rdict(str(folder), options, access_type=AccessType.read_write())
        except Exception as error:  # rocksdict raises bare Exception
            raise trouble("open", folder, error) from error
        self._unlogged = WriteOptions()
        # The stub takes this property for a method.
        self._unlogged.disable_wal = True  # type: ignore[method-assign,assignment]

    def get(self, key: bytes) -> bytes | None:
        """The stored row `key`.

        Raises:
            DamagedError: the part of the database that holds it is damaged.
        """
        try:
            value: bytes | None = self._db.get(ROW + key)
        except Exception as error:  # rocksdict raises bare Exception
            raise trouble("read", self.folder, error) from error
        return value

    def life(self) -> str:
        """Of which life of the changelogs it is a prefix (`streams.heads.Heads`); a new database is of none."""
        for _, value in self._scan(LIFE):
            return value.decode()
        return ""

    def begin_life(self, life: str) -> None:
        """Note that what is written from now on is of `life`."""
        batch = WriteBatch(raw_mode=True)
        batch.put(LIFE, life.encode())
        self._commit(batch, {})

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
            raise trouble("read", self.folder, error) from error

    def write(self, changed: Iterable[ChangedRow], offsets: Mapping[str, int]) -> None:
        """Write the rows of one committed batch and the changelog offsets after it, in one step.

        Raises:
            FullError: the disk is full; what is on disk is a prefix all the same.
            DamagedError: RocksDB has come upon damage.
        """
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
        """Write restored rows: key → (row or None for a deleted one, due time). Older due times turn stale.

        Raises:
            FullError, DamagedError: as `write`.
        """
        batch = WriteBatch(raw_mode=True)
        # In key order a row is put where the one before it was: half the time for the whole batch (measured).
        for key in sorted(rows):
            value, due_ms = rows[key]
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
        try:
            self._db.write(batch, self._unlogged)
        except Exception as error:  # rocksdict raises bare Exception
            raise trouble("write", self.folder, error) from error

    def close(self) -> None:
        """Bring what is in the buffers to disk and close; the folder can be opened again at once.

        Raises:
            FullError: the disk is full; it is closed all the same.
        """
        try:
            self._db.close()
        except Exception as error:  # rocksdict raises bare Exception
            raise trouble("close", self.folder, error) from error


def timer_key(due_ms: int, key: bytes) -> bytes:
    """The index key of a timer: ordered by due time."""
    return TIMER + _NUMBER.pack(due_ms) + key
