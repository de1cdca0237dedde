"""The root of the command line: quick, lazy, one line for every mistake, an exit code that means something."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import streams
from streams import cli, failures

ROOT = Path(__file__).parents[2]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_names_every_command_and_loads_none() -> None:
    heavy = ("pydantic", "aiokafka", "faust", "duckdb", "rocksdict", "uvloop", "streams.commands", "examples")
    run = python(
        "import sys; from streams.cli import main; code = main(['--help']);"
        f"print('LOADED', [name for name in sys.modules if name.startswith({heavy!r})]); sys.exit(code)"
    )

    assert run.returncode == 0, run.stderr
    assert "LOADED []" in run.stdout
    for name in cli.COMMANDS:
        assert f" {name} " in run.stdout


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_can_be_loaded_and_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([name, "--help"]) == 0
    assert f"Usage: midstream {name}" in capsys.readouterr().out


def test_worker_loads_faust_only_when_it_runs() -> None:
    run = python(
        "import sys; from streams.cli import main; main(['worker', 'nowhere.py']);"
        "print([name for name in ('faust', 'rocksdict', 'duckdb') if name in sys.modules])"
    )

    assert run.stdout.strip() == "[]"
    assert "nowhere.py: no such file" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chekc"], "no command 'chekc'; did you mean 'check'? See: midstream --help"),
        (["zzzzzz"], "no command 'zzzzzz'. See: midstream --help"),
        (["review", "lst"], "no command 'lst'; did you mean 'list'? See: midstream review --help"),
        (["check"], "midstream check --help"),
        (["check", "x.py", "--nope"], "--nope"),
        (["worker", "x.py", "--metrics-port", "70000"], "65535"),
        (["topics", "create", "x.py", "--partitions", "0"], "--partitions"),
        (["quarantine", "list", "x.py", "--reason", "bad"], "null_key"),
        (["review", "approve", "x.py", "rev_1"], "--by"),
    ],
)
def test_wrong_arguments_are_one_line_and_code_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(arguments) == 2
    told = capsys.readouterr()

    assert told.out == ""
    assert told.err.startswith("midstream: ")
    assert told.err.count("\n") == 1
    assert said in told.err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "midstream: interrupted\n"),
        (ConnectionRefusedError(111, "refused"), 69, "midstream: [Errno 111] refused\n"),
    ],
)
def test_an_error_ends_as_a_line_and_a_code(
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "root", fail)

    assert cli.main([]) == code
    assert capsys.readouterr().err == said


def test_a_bug_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("in our code")

    monkeypatch.setattr(cli, "root", fail)

    assert cli.main([]) == failures.EXIT_BUG
    err = capsys.readouterr().err
    assert "in our code" in err
    assert "mistake in Midstream" in err.splitlines()[-1]


def test_a_reader_that_leaves_early_is_no_error() -> None:
    run = subprocess.run(
        f"{sys.executable} -u -m streams.cli check examples/flights.py | head -1; echo ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.stderr == ""
    assert run.stdout.splitlines()[-1] in ("0", "141")


def test_no_broker_is_a_line_that_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.setenv("MIDSTREAM_HOME", str(tmp_path))

    assert cli.main(["review", "list", str(ROOT / "examples" / "tickets.py")]) == 69
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "midstream broker start" in err
    assert "KAFKA_BOOTSTRAP" in err


@pytest.mark.parametrize(
    "arguments",
    [["topics", "list"], ["topics", "create"], ["review", "list"], ["quarantine", "list"], ["worker"]],
    ids=" ".join,
)
def test_a_broker_that_does_not_answer_is_code_69(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("MIDSTREAM_HOME", str(tmp_path))

    run = subprocess.run(
        [sys.executable, "-m", "streams.cli", *arguments, "examples/tickets.py"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 69
    assert (
        run.stderr.splitlines()[-1]
        == "midstream: Kafka does not answer at 127.0.0.1:1. See: midstream doctor"
    )
    assert "Traceback" not in run.stderr


def test_the_script_is_this_function() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["midstream"].partition(":")

    assert getattr(importlib.import_module(module), name) is cli.main


@pytest.mark.parametrize("name", streams.__all__)
def test_every_public_name_is_loaded_when_it_is_asked_for(name: str) -> None:
    assert getattr(streams, name).__name__


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Pipelin"):
        streams.Pipelin  # type: ignore[attr-defined] # noqa: B018 - the point
