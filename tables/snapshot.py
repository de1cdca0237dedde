"""The door to DuckDB: committed records come in, a file that analysts open goes out.

The records and the offsets after them enter a working database in one transaction, so it is always exactly some
prefix of every partition. What is published is a copy of it, put in place by one rename.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb

from schemas.record import Placed
from schemas.row import FoldOrder, State
from tables.snapshot_columns import Column, SnapshotError, Table, literal
from tables.snapshot_lines import key_of, text, write_lines
from tables.snapshot_past import macro
from tables.snapshot_records import VALUE_BYTES
from tables.snapshot_tables import ABOUT, dictionary, tables

# Published files must open in DuckDB 1.x, which many analysts' tools still carry; 2.0 reads them too.
STORAGE_VERSION = "v1.0.0"
# The projector is a guest on the pipeline's machine.
MEMORY_LIMIT = "2GB"
# DuckDB's own default; a longer line needs larger buffers.
LINE_BYTES = 16 << 20

# What DuckDB raises when a record does not fit its table; a full disk or a bug of ours raises something else.
UNFIT = (
    duckdb.InvalidInputException,
    duckdb.ConversionException,
    duckdb.ConstraintException,
    duckdb.OutOfRangeException,
)
# What it raises when the disk is full or fails, while it writes or when it commits.
UNWRITTEN = (duckdb.IOException, duckdb.FatalException, duckdb.TransactionException)


@dataclass(frozen=True, slots=True)
class Source:
    """What a snapshot is made of: a pipeline, its topics by role, its entities' state models and orders."""

    pipeline: str
    version: int
    topics: Mapping[str, str]
    states: Mapping[str, type[State]]
    orders: Mapping[str, FoldOrder]


@dataclass(frozen=True, slots=True)
class Cut:
    """Where and when the ends of all topics were taken, and in which lanes (partitions) that was amid a transaction."""

    cluster: str
    at: datetime
    torn: frozenset[int] = frozenset()


class Snapshot:
    """The working database of one pipeline."""

    def __init__(self, working: Path, source: Source) -> None:
        """Open, or create, the database at `working`.

        A table whose columns are not those of `source` any more is emptied together with its offsets, so that it
        is read anew; `renewed` names it.

        Raises:
            SnapshotError: another process holds the file, it is damaged, or it belongs to another pipeline.
        """
        self.working, self.source = working, source
        self.tables = {source.topics[table.role]: table for table in tables(source.states)}
        self._lines = working.with_name(working.name + ".lines")
        self._db = connect(working)
        try:
            self._db.execute(f"ATTACH {quoted(working)} AS work")
        except duckdb.Error as error:
            self._db.close()
            raise SnapshotError(
                f"cannot open {working}: {error}. If another `midstream snapshot` runs, let it end; if the file is "
                f"damaged, delete it: it is made anew from the topics."
            ) from error
        self._db.execute("USE work")
        try:
            self.renewed = self._prepare()
        except BaseException:
            self.close()
            raise

    # --- what is there ---------------------------------------------------------------------------------------

    def _prepare(self) -> list[str]:
        """Make the tables that are missing or outdated; returns the names of the outdated ones."""
        found: dict[str, list[tuple[str, str, bool]]] = {}
        for of, name, kind, nullable in self._db.execute(
            "SELECT table_name, column_name, data_type, is_nullable FROM duckdb_columns() "
            "WHERE database_name = 'work' ORDER BY table_name, column_index"
        ).fetchall():
            found.setdefault(of, []).append((name, kind, not nullable))
        self._check_owner("_offsets" in found)
        wanted = dict(ABOUT) | {table.name: table.columns for table in self.tables.values()}
        renewed = [
            name
            for name, columns in wanted.items()
            if name in found and found[name] != [(c.name, c.type, c.required) for c in columns]
        ]
        if ABOUT.keys() & set(renewed):
            # Without their offsets the others cannot go on either.
            renewed = list(found.keys() & wanted.keys())
        kept = [topic for topic, table in self.tables.items() if table.name not in renewed]
        with self._transaction():
            for name in (found.keys() - wanted.keys()) | set(renewed):
                self._db.execute(f'DROP TABLE "{name}"')
            for name, columns in wanted.items():
                self._db.execute(f'CREATE TABLE IF NOT EXISTS "{name}" ({declared(columns)})')
            for name in ("_offsets", "_unreadable"):
                self._db.execute(
                    f"DELETE FROM {name} WHERE topic NOT IN (SELECT unnest(?::VARCHAR[]))", [kept]
                )
            self._db.execute("DELETE FROM _columns")
            self._db.execute(
                "INSERT INTO _columns SELECT unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), unnest(?::VARCHAR[]), "
                "unnest(?::VARCHAR[])",
                list(map(list, zip(*dictionary(self.tables.values()), strict=True))),
            )
        for table in self.tables.values():
            self._db.execute(f'CREATE TEMP TABLE "staged {table.name}" ({declared(table.columns)})')
        return renewed

    def _check_owner(self, exists: bool) -> None:
        if not exists:
            return
        owners = self._db.execute(
            "SELECT DISTINCT pipeline FROM _offsets WHERE pipeline <> ?", [self.source.pipeline]
        ).fetchall()
        if owners:
            raise SnapshotError(
                f"{self.working} belongs to pipeline {owners[0][0]!r}, not {self.source.pipeline!r}. Name another "
                f"--out, or delete it."
            )

    def offsets(self) -> dict[tuple[str, int], int]:
        """(topic, partition) → the offset after the last record that is in the database."""
        rows = self._db.execute("SELECT topic, partition, next_offset FROM _offsets").fetchall()
        return {(topic, partition): offset for topic, partition, offset in rows}

    def last_cut_ms(self) -> int | None:
        """The wall time of the last cut that was reached or aimed at, epoch milliseconds."""
        found = self._db.execute("SELECT epoch_ms(max(cut_at)) FROM _offsets").fetchone()
        return None if found is None else found[0]

    def cluster(self) -> str | None:
        """The id of the cluster whose records are in the database; None when there are none."""
        found = self._db.execute("SELECT any_value(cluster_id) FROM _offsets").fetchone()
        return None if found is None else found[0]

    def rows(self) -> dict[str, int]:
        """Table → number of rows."""
        names = [table.name for table in self.tables.values()] + ["_unreadable"]
        counts = ", ".join(f'(SELECT count(*) FROM "{name}")' for name in names)
        return dict(zip(names, self._db.execute(f"SELECT {counts}").fetchall()[0], strict=True))

    # --- what comes in -----------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
        except BaseException:
            # After some errors there is none any more.
            with suppress(duckdb.Error):
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def forget(self, topics: Sequence[str]) -> None:
        """Empty the tables of `topics` and forget their offsets: they are to be read anew."""
        with self._transaction():
            for topic in topics:
                self._db.execute(f'DELETE FROM "{self.tables[topic].name}"')
                self._db.execute("DELETE FROM _unreadable WHERE topic = ?", [topic])
                self._db.execute("DELETE FROM _offsets WHERE topic = ?", [topic])

    def apply(
        self, records: Mapping[str, Sequence[Placed]], offsets: Mapping[tuple[str, int], int], cut: Cut
    ) -> None:
        """Take `records` (by topic, in the order of their partitions) and the offsets after them, in one step.

        1 each topic's records are staged, typed; 2 in one transaction they replace what they replace. Until that
        commits nothing has happened.

        Raises:
            SnapshotError: the disk is full, or fails.
        """
        with writing(self.working):
            # 1. Outside the transaction: a record that does not fit must not break it.
            unfit: list[tuple[Placed, str]] = []
            gone: list[tuple[Table, list[str | None]]] = []
            for topic, batch in records.items():
                table = self.tables[topic]
                if table.key is None:
                    unfit += self._stage(table, batch)
                    continue
                # One key lives on one partition, so its last record here is its newest; a tombstone only takes away.
                newest = {
                    record.key or (record.partition, record.offset): record for record in batch
                }.values()
                refused = self._stage(table, [record for record in newest if record.value is not None])
                tombstones = [record for record in newest if record.value is None]
                gone.append((table, [key_of(table, r) for r in (*tombstones, *(r for r, _ in refused))]))
                unfit += refused
            # 2. Rows and offsets together.
            names = [self.tables[topic].name for topic in records]
            with self._transaction():
                self._replace(names, gone)
                if unfit:
                    self._db.executemany(
                        "INSERT INTO _unreadable VALUES (?, ?, ?, ?, ?, ?)",
                        [unreadable(*each) for each in unfit],
                    )
                self._advance(offsets, cut)
            for name in names:
                self._db.execute(f'TRUNCATE temp."staged {name}"')

    def _replace(self, names: Sequence[str], gone: Sequence[tuple[Table, list[str | None]]]) -> None:
        """Put what is staged in the place of the rows with the same keys; take away those whose keys are `gone`."""
        for table, keys in gone:
            self._db.execute(
                f'DELETE FROM "{table.name}" WHERE "{table.key}" IN (SELECT "{table.key}" FROM '
                f'temp."staged {table.name}" UNION ALL SELECT unnest(?::VARCHAR[]))',
                [keys],
            )
        for name in names:
            self._db.execute(f'INSERT INTO "{name}" SELECT * FROM temp."staged {name}"')

    def _stage(self, table: Table, records: Sequence[Placed]) -> list[tuple[Placed, str]]:
        """Load `records` into the staging table of `table`; returns those that do not fit, each with the reason.

        DuckDB takes all or none. When it refuses, each half is tried on its own, down to the record at fault.
        """
        if not records:
            return []
        longest = write_lines(self._lines, table, records)
        computed = ", ".join(column.sql for column in table.columns)
        each = f", unnest({table.each}) AS f" if table.each else ""
        try:
            self._db.execute(
                f'INSERT INTO temp."staged {table.name}" SELECT {computed} FROM (SELECT *{each} FROM '
                f"read_json({quoted(self._lines)}, format = 'newline_delimited', compression = 'none', "
                f"maximum_object_size = {max(LINE_BYTES, longest + 1)}, columns = {{p: 'INTEGER', o: 'BIGINT', "
                f"t: 'BIGINT', i: 'BIGINT', k: 'VARCHAR', v: '{table.body}'}}))"
            )
        except UNFIT as error:
            if len(records) > 1:
                middle = len(records) // 2
                return self._stage(table, records[:middle]) + self._stage(table, records[middle:])
            return [(records[0], str(error).splitlines()[0])]
        return []

    def _advance(self, offsets: Mapping[tuple[str, int], int], cut: Cut) -> None:
        """Note the next offsets."""
        places = [[topic for topic, _ in offsets], [number for _, number in offsets]]
        self._db.execute(
            "DELETE FROM _offsets WHERE (topic, partition) IN (SELECT unnest(?::VARCHAR[]), unnest(?::INTEGER[]))",
            places,
        )
        self._db.execute(
            "INSERT INTO _offsets SELECT unnest(?::VARCHAR[]), unnest(?::INTEGER[]), unnest(?::BIGINT[]), "
            "unnest(?::BOOLEAN[]), ?, ?, ?, ?",
            [
                *places,
                list(offsets.values()),
                [number not in cut.torn for _, number in offsets],
                *(cut.at, self.source.pipeline, self.source.version, cut.cluster),
            ],
        )

    # --- what goes out -----------------------------------------------------------------------------------------

    def publish(self, path: Path) -> None:
        """Put a copy of the database at `path`, whole or not at all; whoever has the old file open keeps it.

        Raises:
            SnapshotError: the copy cannot be written; what stood at `path` is as it was.
        """
        copy = path.with_name(path.name + ".tmp")
        with writing(path):
            remove(copy)
            try:
                self._copy(copy)
                # What a reader wrote into the old file and never checkpointed is not the new file's.
                path.with_name(path.name + ".wal").unlink(missing_ok=True)
                copy.replace(path)
                synced(path.parent)
            finally:
                remove(copy)

    def _copy(self, copy: Path) -> None:
        """A whole copy of the database, on the disk."""
        self._db.execute(f"ATTACH {quoted(copy)} AS published (STORAGE_VERSION '{STORAGE_VERSION}')")
        try:
            self._db.execute("COPY FROM DATABASE work TO published")
            for name, state in self.source.states.items():
                self._db.execute(macro("published.main", name, state, self.source.orders[name]))
            self._db.execute("CHECKPOINT published")
        finally:
            self._db.execute("DETACH published")
        synced(copy)

    def interrupt(self) -> None:
        """Make a call that runs in another thread stop with `duckdb.InterruptException`."""
        self._db.interrupt()

    def close(self) -> None:
        """Let go of the file; what was applied is in it."""
        self._db.close()
        self._lines.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say which file could not be written."""
    try:
        yield
    except (*UNWRITTEN, OSError) as error:
        raise SnapshotError(
            f"cannot write {path}: {error}. What was published before is as it was."
        ) from error


def connect(working: Path) -> duckdb.DuckDBPyConnection:
    """An empty DuckDB in memory that asks nothing of the network; what has no room there goes beside `working`."""
    db = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "memory_limit": MEMORY_LIMIT,
            "temp_directory": str(working) + ".spill",
        }
    )
    # A state's time without a zone is UTC.
    db.execute("SET TimeZone = 'UTC'")
    return db


def unreadable(record: Placed, why: str) -> tuple[str, int, int, str | None, str, bytes | None]:
    """The row of `_unreadable` for one record."""
    key = None if record.key is None else text(record.key)
    value = None if record.value is None else record.value[:VALUE_BYTES]
    return record.topic, record.partition, record.offset, key, why, value


def declared(columns: Sequence[Column]) -> str:
    """The columns of a CREATE TABLE."""
    return ", ".join(f'"{c.name}" {c.type}{" NOT NULL" if c.required else ""}' for c in columns)


def quoted(path: Path) -> str:
    """A path as a string of SQL."""
    return literal(str(path))


def remove(database: Path) -> None:
    """Delete a database file and its log, if they are there."""
    database.unlink(missing_ok=True)
    database.with_name(database.name + ".wal").unlink(missing_ok=True)


def synced(path: Path) -> None:
    """Make sure that a file, or a folder's entries, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
