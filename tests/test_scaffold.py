"""The Makefile, the lock files, the build and CI -> each does what it says, on a machine like a stranger's."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.skips import Skip, main, needless, read_skips

ROOT = Path(__file__).parents[1]
LOCKS = ("build", "demo", "ml", "dev")


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a person's shell would: the `make` that runs these tests must not reach into it."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "PIP_"))
    }
    return subprocess.run(
        command,
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """pyproject.toml, parsed."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


# --- make --------------------------------------------------------------------------------------------------------


def test_make_alone_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    # `dev` is a step of others, not a command for people.
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE)) - {"dev"}

    helped = run("make")

    assert helped.returncode == 0, helped.stderr
    assert {line.split()[1] for line in helped.stdout.splitlines()} == targets
    assert targets | {"dev"} == set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())


def test_make_test_checks_style_then_types_then_imports_then_runs_the_tests() -> None:
    planned = run("make", "--dry-run", "test", "ARGS=-x").stdout

    steps = ["install.sh dev", "ruff check .", "ruff format --check .", "/mypy", "lint-imports", "/pytest"]
    places = [planned.find(step) for step in steps]
    assert -1 not in places
    assert places == sorted(places)
    assert planned.rstrip().endswith("-x")


def test_the_junit_report_is_where_ci_reads_it() -> None:
    planned = run("make", "--dry-run", "test").stdout
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert "--junitxml=build/junit.xml" in planned
    assert "tests/skips.py build/junit.xml ../shared/data" in ci


# --- .venv -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with what the installation reads, and a lock file of one small package."""
    clone = tmp_path / "a clone with a space"
    (clone / "requirements").mkdir(parents=True)
    shutil.copy(ROOT / "requirements" / "install.sh", clone / "requirements")
    (clone / "requirements" / "demo.lock").write_text(
        f"six==1.17.0 --hash=sha256:{'0' * 64}\n", encoding="utf-8"
    )
    (clone / "requirements" / "build.lock").write_text("", encoding="utf-8")
    (clone / "pyproject.toml").write_text("", encoding="utf-8")
    return clone


def install(clone: Path, lock: str = "demo", **environment: str) -> subprocess.CompletedProcess[str]:
    return run("/bin/sh", "requirements/install.sh", lock, cwd=clone, **environment)


def test_an_unknown_lock_is_named_with_the_known_ones(clone: Path) -> None:
    done = install(clone, "demmo")

    assert done.returncode == 1
    assert (
        done.stderr == "setup: there is no requirements/demmo.lock: expected demo, ml or dev, got 'demmo'\n"
    )


def test_without_a_python_that_fits_one_line_says_what_to_install(clone: Path) -> None:
    old = clone / "bin" / "python3"
    old.parent.mkdir()
    old.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    old.chmod(0o755)

    done = install(clone, PYTHON=str(old))

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "no Python 3.11, 3.12 or 3.13" in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.slow
def test_without_a_network_pip_is_heard_and_one_line_says_what_to_do(clone: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0", "PIP_CONFIG_FILE": os.devnull}

    done = install(clone, PYTHON=sys.executable, **nowhere)

    assert done.returncode == 1
    assert "No matching distribution found for six==1.17.0" in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("setup: the packages of requirements/demo.lock are not installed")
    assert "Run the same command again" in last
    assert not (clone / ".venv" / "made-from" / "demo.lock").exists()


def test_an_environment_that_is_up_to_date_is_left_alone(clone: Path) -> None:
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    made = clone / ".venv" / "made-from"
    made.mkdir()
    (made / "folder").write_text(f"{clone}\n", encoding="utf-8")
    for copied in ("requirements/build.lock", "requirements/demo.lock", "pyproject.toml"):
        shutil.copy(clone / copied, made)

    done = install(clone, PYTHON="no-python-is-needed")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    # A lock that changed, and a folder that moved, are seen.
    moved = clone.rename(clone.with_name("moved"))
    assert "no-python-is-needed" in install(moved, PYTHON="no-python-is-needed").stderr


# --- locks -------------------------------------------------------------------------------------------------------


def locked(name: str) -> dict[str, set[str]]:
    """The versions of each package in a lock file; more than one where they differ by platform or Python."""
    found: dict[str, set[str]] = {}
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    for package, version in re.findall(r"^([\w.-]+)==([^\s\\;]+)", text, re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


def test_the_locks_agree_on_every_version_they_share() -> None:
    differing = {
        (name, package): (versions, locked("dev")[package])
        for name in LOCKS
        for package, versions in locked(name).items()
        if locked("dev").get(package, versions) != versions
    }

    assert not differing
    assert set(locked("demo")) <= set(locked("dev"))
    assert set(locked("demo")) <= set(locked("ml"))


@pytest.mark.parametrize(
    ("lock", "extras"), [("demo", ["demo"]), ("ml", ["demo", "ml"]), ("dev", ["demo", "dev"])]
)
def test_a_lock_holds_what_the_project_asks_for(
    lock: str, extras: list[str], project: dict[str, Any]
) -> None:
    optional = project["project"]["optional-dependencies"]
    asked = project["project"]["dependencies"] + [line for extra in extras for line in optional[extra]]

    assert unmet(asked, lock) == [], f"{lock}.lock is older than pyproject.toml; run: make lock"


def test_the_build_lock_holds_the_build_backend(project: dict[str, Any]) -> None:
    assert unmet(project["build-system"]["requires"], "build") == []


def unmet(asked: list[str], lock: str) -> list[str]:
    """The requirements that no version in the lock file meets."""
    versions = locked(lock)
    return [
        text
        for text in asked
        if not (held := versions.get(canonicalize_name((requirement := Requirement(text)).name)))
        or not all(requirement.specifier.contains(version) for version in held)
    ]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_is_exact_and_hashed(lock: str) -> None:
    entries = re.split(
        r"\n(?=\S)", (ROOT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8").strip()
    )

    assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []


# --- the build ---------------------------------------------------------------------------------------------------


def test_the_wheel_holds_the_packages_and_the_lists_of_jars(tmp_path: Path) -> None:
    built = run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path)
    assert built.returncode == 0, built.stderr

    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {
        "schemas",
        "tables",
        "agents",
        "streams",
        "examples",
    }
    assert "streams/embedded/kafka-4.3.1.lock" in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_license_is_apache_2_in_full() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")

    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
    assert re.search(r"^ +Copyright \d{4} The Midstream authors$", text, re.MULTILINE)


def test_the_changelog_has_the_form_that_it_names(project: dict[str, Any]) -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    kinds = set(re.findall(r"^### (.+)$", text, re.MULTILINE))

    assert versions[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions[1:])
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    # A released version is the newest one that the changelog describes.
    assert versions[1:2] in ([], [project["project"]["version"]])


def test_what_a_run_makes_is_not_versioned() -> None:
    made = [
        ".venv/x",
        "build/junit.xml",
        "demo-summary.json",
        "flights.duckdb",
        ".mypy_cache/x",
        "streams/__pycache__/x",
    ]

    ignored = run("git", "check-ignore", *made).stdout.split()

    assert ignored == made


# --- continuous integration --------------------------------------------------------------------------------------


def test_the_ci_script_is_executable_bash_that_stops_at_the_first_failure() -> None:
    script = ROOT / ".ci" / "run"

    assert script.stat().st_mode & stat.S_IXUSR
    assert run("bash", "-n", script).returncode == 0
    assert script.read_text(encoding="utf-8").splitlines()[0] == "#!/usr/bin/env bash"
    assert "\nset -euo pipefail\n" in script.read_text(encoding="utf-8")


TESTS = """
import pytest
def test_passes(): assert True
def test_data(): pytest.skip("shared/data/webhooks is not there")
@pytest.mark.skipif(True, reason="kcat is not installed")
def test_tool(): assert True
@pytest.mark.xfail(reason="stripe_events are wrong")
def test_known(): assert False
"""


@pytest.mark.parametrize("processes", ["0", "2"])
def test_skips_are_read_from_a_real_report(tmp_path: Path, processes: str) -> None:
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    report = tmp_path / "junit.xml"
    run(
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        processes,
        f"--junitxml={report}",
        "-c",
        os.devnull,
        cwd=tmp_path,
    )
    data = tmp_path / "data"

    skips = read_skips(report)
    assert {skip.reason for skip in skips} == {"shared/data/webhooks is not there", "kcat is not installed"}
    assert needless(skips, data) == []
    assert main(report, data) == 0

    (data / "webhooks").mkdir(parents=True)
    assert [skip.reason for skip in needless(skips, data)] == ["shared/data/webhooks is not there"]
    assert main(report, data) == 1


@pytest.mark.parametrize(
    ("reason", "is_needless"),
    [
        ("shared/data is not there", True),
        ("no folder webhooks", True),
        ("stripe_events: not found", False),
        ("kcat is not installed", False),
        ("needs my-webhooks-server", False),
    ],
)
def test_a_needless_skip_names_a_folder_that_is_there(tmp_path: Path, reason: str, is_needless: bool) -> None:
    (tmp_path / "webhooks").mkdir()
    skip = Skip("tests.test_some::test_data", reason)

    assert needless([skip], tmp_path) == ([skip] if is_needless else [])


@pytest.mark.parametrize("content", [None, "", "<testsuites><testsuite/></testsuites>"])
def test_a_report_without_tests_is_an_error(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "junit.xml"
    if content is not None:
        report.write_text(content, encoding="utf-8")

    assert main(report, tmp_path) == 2
    assert capsys.readouterr().out.startswith("skips: ")
