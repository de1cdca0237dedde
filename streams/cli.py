"""`midstream`: arguments come in; one command runs, and an exit code that means something goes out.

Commands are mounted by name and loaded when they are asked for: `midstream --help` loads none of them.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version

from cyclopts import App, CycloptsError, UnknownCommandError

from streams import failures
from streams.exits import EXIT_MISTAKE
from streams.neighbours import intruder

COMMANDS = {
    "demo": ("examples.demo:app", "Play real flights through a real Kafka and watch what is decided."),
    "check": ("streams.commands.check:app", "Check a pipeline without a broker, and print what it declares."),
    "worker": ("streams.commands.worker:app", "Run a pipeline."),
    "broker": ("streams.commands.broker:app", "The embedded broker: a real Apache Kafka on this machine."),
    "topics": ("streams.commands.topics:app", "The topics of a pipeline: make them, list them."),
    "repartition": ("streams.commands.repartition:app", "Give a pipeline more partitions; move its rows."),
    "offsets": ("streams.commands.offsets:app", "Where the lanes go on: show it, change it after a loss."),
    "quarantine": ("streams.commands.quarantine:app", "Refused records: list, show, send back."),
    "review": ("streams.commands.review:app", "Questions to people: list, show, answer."),
    "state": ("streams.commands.state:app", "What is known of an entity now."),
    "context": ("streams.commands.context:app", "What a decision looked at: facts, sources, ages."),
    "freshness": ("streams.commands.freshness:app", "Who has been silent for too long."),
    "explain": ("streams.commands.explain:app", "The chain from an event to what was done, on one page."),
    "snapshot": ("streams.commands.snapshot:app", "Project the topics into a DuckDB file for analysts."),
    "doctor": ("streams.commands.doctor:app", "Look for what keeps a pipeline from running."),
}

ABOUT = """State, context, decisions and actions from Kafka events, each exactly once.

Exit codes: 0 done, 1 refused or not found, 2 wrong arguments, 69 Kafka or something else is not there, 70 stopped
itself rather than do something wrong, 78 a mistake in a pipeline or in the settings, 130 Ctrl-C.
"""


def installed_version() -> str:
    """The version of the installed package; "unknown" in a folder that is not installed."""
    try:
        return version("midstream")
    except PackageNotFoundError:
        return "unknown"


def root() -> App:
    """The command line, with nothing of it loaded yet."""
    app = App(
        name="midstream",
        help=ABOUT,
        version=installed_version,
        suppress_keyboard_interrupt=False,
    )
    for name, (where, about) in COMMANDS.items():
        app.command(where, name=name, help=about)
    return app


def misused(error: CycloptsError) -> str:
    """What is wrong with the arguments, in one line."""
    chain = ("midstream", *(error.command_chain or ()))
    if isinstance(error, UnknownCommandError) and error.unused_tokens:
        # Cyclopts would load every command to say the same.
        word = error.unused_tokens[0]
        like = get_close_matches(word, COMMANDS if len(chain) == 1 else [*(error.app or ())])
        line = f"no command {word!r}" + (f"; did you mean {like[0]!r}?" if like else ".")
    else:
        line = " ".join(str(error).split())
    return f"{line} See: {' '.join(chain)} --help"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; what it cannot do is said in one line on standard error. Returns the exit code."""
    foreign = intruder()
    if foreign is not None:
        print(f"midstream: {foreign}", file=sys.stderr)
        return EXIT_MISTAKE
    try:
        result = root()(
            None if arguments is None else list(arguments),
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        sys.stdout.flush()
    except CycloptsError as error:
        print(f"midstream: {misused(error)}", file=sys.stderr)
        return failures.EXIT_USAGE
    except BrokenPipeError:
        # Whoever read our output has gone, as `head` does; Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return failures.EXIT_PIPE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the last place where it can be said
        known = failures.told(error)
        if known is None:
            traceback.print_exception(error)
            known = failures.EXIT_BUG, failures.last_words(error)
        print(f"midstream: {known[1]}", file=sys.stderr)
        return known[0]
    return result if isinstance(result, int) else 0


if __name__ == "__main__":
    sys.exit(main())
