"""streams/kafka_jars.py: jars by exact version and hash, against a Maven repository on loopback."""

from __future__ import annotations

import errno
import hashlib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jgo.maven._core as jgo_core
import pytest

from streams.embedded import kafka_jars
from streams.embedded.kafka_jars import SERVER_LOCK, TOOLS_LOCK, Jar, JarError, read_lock, verified


def jar(name: str, content: bytes) -> Jar:
    return Jar("org.example", name, "1.0", hashlib.sha256(content).hexdigest())


def store(folder: Path, which: Jar, content: bytes) -> Path:
    path = folder / which.file_name
    path.write_bytes(content)
    return path


class Repository(ThreadingHTTPServer):
    """A Maven repository of made-up jars. `failures` are answered with 503 first, `cut` ends in mid-file."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.contents: dict[str, bytes] = {}
        self.requested: list[str] = []
        self.failures = 0
        self.cut = False


class Answer(BaseHTTPRequestHandler):
    server: Repository

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[1]
        content = self.server.contents.get(name)
        if name.endswith(".jar"):
            self.server.requested.append(name)
            if self.server.failures:
                self.server.failures -= 1
                self.send_error(503)
                return
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.server.cut else content)

    def log_message(self, *arguments: object) -> None:
        """Not on the test's output."""


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    server = Repository()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    url = f"http://127.0.0.1:{server.server_address[1]}/maven2"
    monkeypatch.setitem(jgo_core.DEFAULT_REMOTE_REPOS, "central", url)
    monkeypatch.setattr("streams.embedded.kafka_jars._RETRY_PAUSE_S", 0.0)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_lock_file_is_read_without_comments_and_blank_lines(tmp_path: Path) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text(f"# comment\n\norg.example:one_2.13:1.0-rc1 sha256:{'0a' * 32}  # why\n")

    (read,) = read_lock(lock)

    assert read == Jar("org.example", "one_2.13", "1.0-rc1", "0a" * 32)
    assert read.file_name == "one_2.13-1.0-rc1.jar"
    assert read.coordinate == "org.example:one_2.13:1.0-rc1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("org.example:one sha256:" + "0" * 64, "line 1: expected 'group:artifact:version sha256"),
        ("org.example:one:1 sha256:123", "line 1: expected"),
        (f"a:one:1 sha256:{'0' * 64}\nb:one:1 sha256:{'1' * 64}", "line 2: one-1.jar is named twice"),
    ],
)
def test_a_malformed_lock_file_is_refused_by_line(tmp_path: Path, text: str, message: str) -> None:
    lock = tmp_path / "some.lock"
    lock.write_text(text)

    with pytest.raises(JarError, match=message):
        read_lock(lock)


def test_our_locks_name_kafka_and_do_not_overlap() -> None:
    server, tools = read_lock(SERVER_LOCK), read_lock(TOOLS_LOCK)

    assert "org.apache.kafka:kafka_2.13:4.3.1" in {jar.coordinate for jar in server}
    assert [jar.coordinate for jar in tools] == ["org.apache.kafka:kafka-tools:4.3.1"]
    assert not {jar.file_name for jar in server} & {jar.file_name for jar in tools}


def test_cached_jars_need_neither_network_nor_jgo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.maven", None)
    one, two = jar("one", b"1"), jar("two", b"2")
    paths = [store(tmp_path, two, b"2"), store(tmp_path, one, b"1")]

    assert verified([two, one], tmp_path) == paths


@pytest.mark.parametrize("content", [b"something else", b"the jar's con", b""])
def test_a_wrong_or_truncated_jar_is_named_with_both_hashes_and_the_file_to_delete(
    tmp_path: Path, content: bytes
) -> None:
    good, bad = jar("good", b"good"), jar("bad", b"the jar's content")
    store(tmp_path, good, b"good")
    path = store(tmp_path, bad, content)

    with pytest.raises(JarError) as wrong:
        verified([good, bad], tmp_path)

    assert str(wrong.value) == (
        f"wrong hash: bad-1.0.jar (org.example:bad:1.0) has SHA-256 {hashlib.sha256(content).hexdigest()},"
        f" expected {bad.sha256}; delete {path} and start again to fetch it anew"
    )
    assert path.exists(), "what is wrong is the user's to look at and delete"


def test_missing_jars_are_fetched_once(tmp_path: Path, repository: Repository) -> None:
    repository.contents = {f"jar{n}-1.0.jar": b"content %d" % n for n in range(9)}
    jars = [jar(f"jar{n}", b"content %d" % n) for n in range(9)]
    store(tmp_path, jars[0], b"content 0")
    heard: list[tuple[int, int, str]] = []

    first = verified(jars, tmp_path, progress=lambda *step: heard.append(step))
    second = verified(jars, tmp_path, progress=lambda *step: heard.append(step))

    assert first == second == [tmp_path / jar.file_name for jar in jars]
    assert sorted(repository.requested) == [jar.file_name for jar in jars[1:]]
    assert [(done, total) for done, total, _ in heard] == [(done, 8) for done in range(1, 9)]
    assert {name for _, _, name in heard} == set(repository.requested)
    assert {path.name for path in tmp_path.iterdir()} == {".lock", *(jar.file_name for jar in jars)}


def test_two_that_start_together_fetch_once(tmp_path: Path, repository: Repository) -> None:
    repository.contents = {"one-1.0.jar": b"1"}

    with ThreadPoolExecutor(2) as both:
        paths = list(both.map(lambda _: verified([jar("one", b"1")], tmp_path), range(2)))

    assert paths == [[tmp_path / "one-1.0.jar"]] * 2
    assert repository.requested == ["one-1.0.jar"]


def test_a_jar_fetched_with_a_wrong_hash_is_not_kept(tmp_path: Path, repository: Repository) -> None:
    repository.contents = {"one-1.0.jar": b"tampered"}

    with pytest.raises(JarError, match=r"wrong hash: one-1\.0\.jar .*expected .*it was not kept"):
        verified([jar("one", b"1")], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_download_cut_short_is_tried_again_and_never_kept(tmp_path: Path, repository: Repository) -> None:
    repository.contents = {"one-1.0.jar": b"1" * 1000}
    repository.cut = True

    with pytest.raises(JarError, match=r"cannot fetch one-1\.0\.jar \(org\.example:one:1\.0\)"):
        verified([jar("one", b"1" * 1000)], tmp_path)
    assert len(repository.requested) == 3
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_passing_failure_of_the_repository_is_outlived(tmp_path: Path, repository: Repository) -> None:
    repository.contents = {"one-1.0.jar": b"1"}
    repository.failures = 2

    assert verified([jar("one", b"1")], tmp_path) == [tmp_path / "one-1.0.jar"]


def test_what_a_killed_fetcher_left_is_removed(tmp_path: Path, repository: Repository) -> None:
    repository.contents = {"one-1.0.jar": b"1"}
    left = tmp_path / ".fetching" / "two-1.0.jar.77.1"
    left.mkdir(parents=True)

    verified([jar("one", b"1")], tmp_path)

    assert not left.parent.exists()


def test_no_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.embedded.kafka_jars._RETRY_PAUSE_S", 0.0)
    # Port 9 (discard) on loopback: nothing listens there.
    monkeypatch.setitem(jgo_core.DEFAULT_REMOTE_REPOS, "central", "http://127.0.0.1:9/maven2")

    with pytest.raises(JarError) as offline:
        verified([jar("one", b"1")], tmp_path)

    assert str(offline.value) == (
        "cannot fetch one-1.0.jar (org.example:one:1.0): no connection to the Maven repository (ConnectionError);"
        f" check the network (HTTPS_PROXY is followed) and start again: jars already fetched are kept in {tmp_path}"
    )


def test_without_jgo_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jgo.maven", None)

    with pytest.raises(
        JarError, match=r"jgo, which fetches them, is not installed: pip install 'midstream\[demo\]'"
    ):
        verified([jar("one", b"1")], tmp_path)


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(wanted: Jar, staging: Path) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(staging))

    monkeypatch.setattr(kafka_jars, "_download", full)

    with pytest.raises(
        JarError, match=r"the disk is full: .* cannot be written; free 50 MB there, or set MIDSTREAM_CACHE"
    ):
        verified([jar("one", b"1")], tmp_path)


def test_a_cache_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(
        JarError, match="Not a directory; set MIDSTREAM_CACHE to a folder that can be written"
    ):
        verified([jar("one", b"1")], tmp_path / "file" / "cache")
