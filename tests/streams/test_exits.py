"""streams/exits.py: how a process ends that must not go on."""

from __future__ import annotations

import signal
import subprocess
import sys
from textwrap import dedent

import pytest

from streams.exits import EXIT_DIED, EXIT_MISTAKE, EXIT_UNAVAILABLE


def run(body: str) -> subprocess.CompletedProcess[str]:
    program = dedent("""
        import atexit, sys, threading, time
        from streams.exits import die
        atexit.register(print, "atexit ran")
    """) + dedent(body)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )


def test_it_says_why_in_one_line_and_nothing_else_runs() -> None:
    done = run("""
        try:
            die("lane x: fenced")
        finally:
            print("finally ran")
    """)
    assert (done.returncode, done.stdout) == (EXIT_DIED, "")
    assert done.stderr == "midstream: stopped: lane x: fenced\n"


def test_an_error_comes_with_its_traceback_and_the_line_last() -> None:
    done = run("""
        try:
            raise KeyError("who")
        except KeyError as error:
            die("lane x: lost", error)
    """)
    assert done.returncode == EXIT_DIED
    assert "KeyError: 'who'" in done.stderr
    assert done.stderr.splitlines()[-1] == "midstream: stopped: lane x: lost"


@pytest.mark.parametrize("daemon", [True, False])
def test_other_threads_cannot_hold_it_up(daemon: bool) -> None:
    done = run(f"""
        threading.Thread(target=time.sleep, args=(60,), daemon={daemon}).start()
        die("now")
    """)
    assert done.returncode == EXIT_DIED


def test_it_ends_with_the_code_of_its_reason_even_if_nobody_listens_any_more() -> None:
    done = run("""
        import os
        read, write = os.pipe()
        os.dup2(write, 2)
        os.close(read)
        os.close(write)
        die("a mistake", ValueError("x"), code=78)
    """)
    assert (done.returncode, done.stdout) == (EXIT_MISTAKE, "")


def test_a_process_stops_when_its_standard_input_closes() -> None:
    program = "from streams.exits import stop_with_stdin; stop_with_stdin()"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE)
    try:
        assert process.stdin is not None
        process.stdin.write(b"not the end")
        process.stdin.flush()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.stdin.close()
        assert process.wait(20) == -signal.SIGTERM
    finally:
        process.kill()


def test_the_codes_are_those_of_sysexits() -> None:
    assert (EXIT_DIED, EXIT_MISTAKE, EXIT_UNAVAILABLE) == (70, 78, 69)


def test_what_was_put_right_is_told_and_the_process_goes_on() -> None:
    done = run("""
        from streams.exits import say
        say("lane x: restored")
    """)
    assert (done.returncode, done.stdout) == (0, "atexit ran\n")
    assert done.stderr == "midstream: lane x: restored\n"
