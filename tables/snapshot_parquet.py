"""A snapshot as Parquet: a published file comes in; a folder with a table each, records by the day they were recorded,
goes out.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb

from tables.snapshot import connect, quoted, writing
from tables.snapshot_columns import SnapshotError

# What an earlier export has, and nobody else's folder.
MARK = Path("_offsets") / "data.parquet"


def export(published: Path, folder: Path) -> dict[str, int]:
    """Write every table of the snapshot `published` into `folder`; returns table → rows.

    Records stand under `<table>/day=YYYY-MM-DD/` (UTC, by `recorded_at`: a day that is over never changes), all else
    in `<table>/data.parquet`. The folder appears whole; an earlier export there is replaced.

    Raises:
        SnapshotError: the folder holds something else, or cannot be written.
    """
    if folder.exists() and not (folder / MARK).exists() and any(folder.iterdir()):
        raise SnapshotError(f"{folder} holds something that is no export of a snapshot: name another folder")
    new, old = (folder.with_name(folder.name + ending) for ending in (".tmp", ".old"))
    with writing(folder):
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        try:
            rows = written(published, new)
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        finally:
            if not folder.exists() and old.exists():
                old.rename(folder)
            shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    return rows


def written(published: Path, folder: Path) -> dict[str, int]:
    """Every table of `published` under `folder`."""
    db = connect(published)
    try:
        db.execute(f"ATTACH {quoted(published)} AS snapshot (READ_ONLY)")
        columns = db.execute(
            "SELECT table_name, list(column_name) FROM duckdb_columns() WHERE database_name = 'snapshot' GROUP BY ALL "
            "ORDER BY table_name"
        ).fetchall()
        rows = {}
        for table, names in columns:
            into = folder / table
            into.mkdir()
            rows[table] = write_table(db, table, into, by_day={"recorded_at", "kafka_offset"} <= set(names))
        return rows
    finally:
        db.close()


def write_table(db: duckdb.DuckDBPyConnection, table: str, into: Path, *, by_day: bool) -> int:
    """One table; returns its number of rows."""
    # What has no row has no day: then the columns are all that there is to say.
    count = db.execute(f'SELECT count(*) FROM snapshot."{table}"').fetchall()[0][0]
    if by_day and count:
        db.execute(
            f'COPY (SELECT *, recorded_at::DATE AS day FROM snapshot."{table}") TO {quoted(into)} '
            "(FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day), OVERWRITE_OR_IGNORE)"
        )
    else:
        target = quoted(into / "data.parquet")
        db.execute(f'COPY snapshot."{table}" TO {target} (FORMAT parquet, COMPRESSION zstd)')
    return int(count)
