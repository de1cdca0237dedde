"""tables/store.py: on a real RocksDB, every batch is in whole or not at all, also after kill -9 and with damage."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tables.entity import ChangedRow
from tables.store import DamagedError, FullError, Store, StoreError, set_aside, trouble

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "flights" / "events-0"


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    opened = Store(folder)
    yield opened
    opened.close()


def changed(
    key: str, value: bytes = b"row", due_ms: int | None = None, was_due_ms: int | None = None
) -> ChangedRow:
    return ChangedRow("flight", f"flight:{key}".encode(), value, due_ms, was_due_ms)


def contents(store: Store) -> tuple[dict[bytes, bytes], list[tuple[int, str, str]], dict[str, int]]:
    return dict(store.rows()), sorted(store.timers()), store.offsets()


# Rows, timers, offsets.


def test_a_new_database_is_empty(store: Store) -> None:
    assert contents(store) == ({}, [], {})
    assert store.get(b"flight:UA1") is None


def test_everything_of_a_batch_is_there_after_it_is_opened_again(folder: Path) -> None:
    first = Store(folder)
    first.write([changed("UA1", b"one", due_ms=9), changed("UA2", b"two")], {"flight.changelog": 7})
    first.close()
    again = Store(folder)
    assert contents(again) == (
        {b"flight:UA1": b"one", b"flight:UA2": b"two"},
        [(9, "flight", "UA1")],
        {"flight.changelog": 7},
    )
    assert again.get(b"flight:UA2") == b"two"
    again.close()


def test_a_row_takes_the_place_of_the_one_before(store: Store) -> None:
    store.write([changed("UA1", b"one")], {"a": 1, "b": 1})
    store.write([changed("UA1", b"two")], {"a": 2})
    assert contents(store) == ({b"flight:UA1": b"two"}, [], {"a": 2, "b": 1})


def test_an_empty_row_is_not_a_missing_one(store: Store) -> None:
    store.write([changed("UA1", b"")], {})
    assert store.get(b"flight:UA1") == b""


@pytest.mark.parametrize("key", ["", "a:b", "ü/\x00", "\U0010ffff"])
def test_any_key_is_kept_in_rows_and_timers(store: Store, key: str) -> None:
    store.write([changed(key, due_ms=5), changed("other")], {})
    assert list(store.timers()) == [(5, "flight", key)]
    assert store.get(f"flight:{key}".encode()) == b"row"


def test_a_timer_moves_with_its_row(store: Store) -> None:
    store.write([changed("UA1", due_ms=5), changed("UA2", due_ms=5)], {})
    store.write([changed("UA1", due_ms=8, was_due_ms=5), changed("UA2", due_ms=5, was_due_ms=5)], {})
    assert sorted(store.timers()) == [(5, "flight", "UA2"), (8, "flight", "UA1")]
    store.write([changed("UA1", was_due_ms=8)], {})
    assert list(store.timers()) == [(5, "flight", "UA2")]


def test_timers_before_1970_and_far_ahead_are_kept(store: Store) -> None:
    store.write([changed("UA1", due_ms=-(1 << 60)), changed("UA2", due_ms=1 << 60)], {})
    assert sorted(store.timers()) == [(-(1 << 60), "flight", "UA1"), (1 << 60, "flight", "UA2")]


# Restore.


def test_a_restore_writes_rows_timers_and_offsets(store: Store) -> None:
    store.restore({b"flight:UA1": (b"one", 9), b"flight:UA2": (b"two", None)}, {"flight.changelog": 12})
    assert contents(store) == (
        {b"flight:UA1": b"one", b"flight:UA2": b"two"},
        [(9, "flight", "UA1")],
        {"flight.changelog": 12},
    )


def test_a_tombstone_in_the_changelog_deletes_the_row(store: Store) -> None:
    store.restore({b"flight:UA1": (b"one", None), b"flight:UA2": (b"two", None)}, {"flight.changelog": 2})
    store.restore({b"flight:UA1": (None, None), b"flight:UA9": (None, None)}, {"flight.changelog": 4})
    assert contents(store) == ({b"flight:UA2": b"two"}, [], {"flight.changelog": 4})


def test_a_restore_may_be_repeated(store: Store) -> None:
    rows: dict[bytes, tuple[bytes | None, int | None]] = {b"flight:UA1": (b"one", 9)}
    store.restore(rows, {"flight.changelog": 1})
    before = contents(store)
    store.restore(rows, {"flight.changelog": 1})
    assert contents(store) == before


# What can go wrong.


def test_a_second_opener_is_told_what_to_do(folder: Path, store: Store) -> None:
    code = f"from pathlib import Path; from tables.store import Store; Store(Path({str(folder)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("tables.store.StoreError: cannot open the lane's database ")
    assert str(folder) in last
    assert "If another worker runs, stop it" in last


def test_a_folder_can_be_opened_again_as_soon_as_it_is_closed(folder: Path) -> None:
    first = Store(folder)
    first.write([changed("UA1"), changed("UA2")], {})
    # An iteration that somebody left half-way must not hold the lock.
    next(iter(first.rows()))
    first.close()
    again = Store(folder)
    assert len(list(again.rows())) == 2
    again.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file where a folder should be")
    with pytest.raises(StoreError, match=r"cannot open the lane's database .*/home/events-0"):
        Store(tmp_path / "home" / "events-0")


def filled(folder: Path) -> None:
    store = Store(folder)
    rows = [changed(f"UA{n:04}", b"%04d" % n * 250, due_ms=n) for n in range(2000)]
    store.write(rows, {"flight.changelog": 2000})
    store.close()
    # Opened and closed once more, everything lies in tables instead of the log.
    Store(folder).close()


@pytest.mark.parametrize("name", ["CURRENT", "MANIFEST-*", "*.sst"])
def test_a_damaged_file_is_told_when_it_is_opened(folder: Path, name: str) -> None:
    filled(folder)
    for file in folder.glob(name):
        file.write_bytes(bytes(byte ^ 0xFF for byte in file.read_bytes()))
    with pytest.raises(DamagedError, match=r"It is damaged; the lane restores it from its changelog"):
        Store(folder)


def test_a_missing_file_is_told_when_it_is_opened(folder: Path) -> None:
    filled(folder)
    next(folder.glob("*.sst")).unlink()
    with pytest.raises(DamagedError, match="No such file"):
        Store(folder)


def test_a_damaged_block_is_told_when_it_is_read(folder: Path) -> None:
    """Never as rows, timers or offsets that are simply not there."""
    filled(folder)
    for file in folder.glob("*.sst"):
        body = bytearray(file.read_bytes())
        third = len(body) // 3
        body[third : third + 200] = bytes(byte ^ 0xFF for byte in body[third : third + 200])
        file.write_bytes(body)
    store = Store(folder)
    told = r"cannot read the lane's database .*: Corruption: .* It is damaged; the lane restores it"
    with pytest.raises(DamagedError, match=told):
        list(store.rows())
    with pytest.raises(DamagedError, match=told):
        list(map(store.get, (b"flight:UA%04d" % n for n in range(2000))))
    store.close()


def test_a_damaged_database_is_set_aside_in_place_of_the_one_before(folder: Path) -> None:
    aside = folder.with_name("damaged-events-0")
    for number in (1, 2):
        store = Store(folder)
        store.write([changed("UA1", b"%d" % number)], {})
        store.close()
        assert set_aside(folder) == aside
        assert not folder.exists()
    store = Store(aside)
    assert store.get(b"flight:UA1") == b"2"
    store.close()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("IO error: No space left on device: While appending to file: /db/000004.log", FullError),
        ("IO error: File too large: While appending to file: /db/000004.log", FullError),
        ("IO error: While lock file: /db/LOCK: Resource temporarily unavailable", StoreError),
        ("IO error: lock hold by current process: /db/LOCK: No locks available", StoreError),
        ("IO error: While open a file: /db/CURRENT: Permission denied", StoreError),
        ("IO error: While open: /db/000004.sst: Too many open files", StoreError),
        ("Corruption: block checksum mismatch", DamagedError),
        ("IO error: No such file or directory: While open: /db/000007.sst", DamagedError),
    ],
)
def test_only_what_is_damaged_is_called_so(folder: Path, said: str, kind: type[StoreError]) -> None:
    """A database that is called damaged is moved away: that must not happen to one that another worker has."""
    assert type(trouble("open", folder, Exception(said))) is kind


FILLER = """
import os, resource, sys
from pathlib import Path
from tables import store as module
from tables.entity import ChangedRow

module.WRITE_BUFFER_BYTES = 1 << 16
store = module.Store(Path(sys.argv[1]))
store.write([ChangedRow("e", b"e:0", b"small", None, None)], {"c": 0})
resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))
for number in range(1, int(sys.argv[2])):
    try:
        store.write([ChangedRow("e", b"e:%d" % number, os.urandom(20_000), None, None)], {"c": number})
    except module.FullError as error:
        print(error)
        break
try:
    store.close()
except module.FullError as error:
    print(error)
"""


@pytest.mark.parametrize(("rows", "said_of"), [(1000, ["write", "close"]), (3, ["close"])])
def test_a_full_disk_is_told_with_the_folder_the_room_and_what_to_do(
    folder: Path, rows: int, said_of: list[str]
) -> None:
    """By the write after the one that filled it, or by the end."""
    done = subprocess.run(
        [sys.executable, "-c", FILLER, str(folder), str(rows)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(said_of)
    for line, what in zip(lines, said_of, strict=True):
        assert line.startswith(f"cannot {what} the lane's database {folder}: IO error: ")
        assert re.search(r"The disk has [\d,]+ MB free. Make room", line)
    # What had come to disk is a prefix; here it is none.
    store = Store(folder)
    assert contents(store) == ({}, [], {})
    store.close()


def test_a_database_knows_of_which_life_it_is(folder: Path) -> None:
    store = Store(folder)
    assert store.life() == ""
    store.begin_life("8f3a")
    store.write([changed("UA1")], {"c": 1})
    store.close()
    again = Store(folder)
    assert again.life() == "8f3a"
    assert contents(again) == ({b"flight:UA1": b"row"}, [], {"c": 1})
    again.close()


# kill -9.

WRITES = {
    "batches": """
    due, was = number + 1, number if number > 1 else None
    store.write([ChangedRow("e", b"e:%d" % key, text * 50, due, was) for key in range(20)], {"c": number, "d": number})
""",
    # Older due times are left behind: they are stale.
    "a restore": """
    store.restore({b"e:%d" % key: (text * 50, number + 1) for key in range(20)}, {"c": number, "d": number})
""",
}
WRITER = """
import sys
from pathlib import Path
from tables import store as module
from tables.entity import ChangedRow

module.WRITE_BUFFER_BYTES = 1 << 16
store = module.Store(Path(sys.argv[1]))
number = store.offsets().get("c", 0)
while True:
    number += 1
    text = b"%d" % number
    {write}
    print(number, flush=True)
"""


@pytest.mark.parametrize("writes", WRITES)
def test_after_kill_9_the_database_is_some_whole_prefix(folder: Path, writes: str) -> None:
    """Rows, timers and offsets of one batch, all of it: buffers come to disk whole and in order."""
    code = WRITER.format(write=WRITES[writes].strip())
    reached = []
    for _ in range(4):
        writer = subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(0.4)
        writer.kill()
        reported = max(map(int, writer.stdout.read().split("\n")[:-1]), default=0)
        writer.wait(timeout=30)
        writer.stdout.close()
        store = Store(folder)
        offsets = store.offsets()
        number = offsets.get("c", 0)
        assert number <= reported + 1
        assert offsets == ({"c": number, "d": number} if number else {})
        rows = {b"e:%d" % key: b"%d" % number * 50 for key in range(20)} if number else {}
        assert dict(store.rows()) == rows
        due = {key: due_ms for due_ms, _, key in sorted(store.timers())}
        assert due == ({str(key): number + 1 for key in range(20)} if number else {})
        store.close()
        reached.append(number)
    # It is of use only if something was on disk before the end.
    assert reached[-1] > 0
