"""Each peer runs in an environment of its own, made from pinned files; what is missing is said with the reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import peer_env
from benchmarks.peer_env import UnavailableError
from benchmarks.roster import CONTENDERS, chosen

PEERS = Path(peer_env.__file__).with_name("peers")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it."""
    monkeypatch.setenv("MIDSTREAM_CACHE", str(tmp_path))
    return tmp_path


def mark(folder: Path) -> None:
    (folder / peer_env.MADE).touch()


def test_ours_runs_in_this_environment() -> None:
    [ours] = chosen("midstream_eos")
    assert peer_env.command(ours, print) == [sys.executable, "-m", "benchmarks.lane_worker"]


def test_a_made_environment_is_used_without_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [quix] = chosen("quix_eos")
    with peer_env.kept("quix", [PEERS / "quix.lock"]) as folder:
        mark(folder)
    monkeypatch.setattr(peer_env, "call", lambda *given: pytest.fail(f"called {given}"))
    assert peer_env.command(quix, print) == [
        str(folder / "bin" / "python"),
        "-m",
        "benchmarks.peers.quix_eos",
    ]
    assert folder.is_relative_to(cache)


def test_an_interrupted_environment_is_made_anew_and_a_changed_file_makes_another(
    cache: Path, tmp_path: Path
) -> None:
    source = tmp_path / "x.lock"
    source.write_text("a==1")
    with peer_env.kept("x", [source]) as first:
        (first / "half").touch()
    with peer_env.kept("x", [source]) as again:
        assert again == first
        assert list(again.iterdir()) == []
        (again / "whole").touch()
        mark(again)
    with peer_env.kept("x", [source]) as kept:
        assert (kept / "whole").exists()
    source.write_text("a==2")
    with peer_env.kept("x", [source]) as other:
        assert other != first


def test_without_maven_kafka_streams_is_unavailable_and_says_what_to_install(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [java] = chosen("kafka_streams_eos")
    monkeypatch.setenv("PATH", str(cache))
    with pytest.raises(UnavailableError, match=r"mvn is not on PATH.*apt-get install maven"):
        peer_env.command(java, print)


def test_a_tool_that_fails_is_quoted() -> None:
    with pytest.raises(UnavailableError, match="quix: sh ended with 4: no wheel for you"):
        peer_env.call("quix", ["sh", "-c", "echo no wheel for you >&2; exit 4"])


def test_java_is_that_of_java_home_else_of_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", "/jdk")
    command = peer_env.java_command(tmp_path)
    assert command[0] == "/jdk/bin/java"
    assert command[-2:] == [f"{tmp_path}/classes:{tmp_path}/lib/*", "bench.KafkaStreamsEos"]
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="java is not on PATH"):
        peer_env.java_command(tmp_path)


@pytest.mark.parametrize(
    "toolchain", sorted({each.toolchain for each in CONTENDERS} - {"ours", "kafka_streams"})
)
def test_what_a_peer_names_is_locked_as_named_with_hashes(toolchain: str) -> None:
    wanted = [
        line.partition("[")[0].partition("==")[0] + "==" + line.partition("==")[2]
        for line in (PEERS / f"{toolchain}.in").read_text().splitlines()
        if line and not line.startswith("#")
    ]
    lock = (PEERS / f"{toolchain}.lock").read_text()
    assert wanted
    for each in wanted:
        assert f"\n{each} \\" in f"\n{lock}"
    assert lock.count("==") <= lock.count("--hash=")


def test_every_python_peer_imports_nothing_of_ours_but_the_benchmark_s_standard_library_part(
    tmp_path: Path,
) -> None:
    # An interpreter without any installed package: as much as a peer's environment has of ours.
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import benchmarks.contender, benchmarks.peers.work"],
        cwd=PEERS.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
