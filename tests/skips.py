"""pytest's JUnit report and the folder of data -> the tests that were skipped for want of data that is there.

Run by `.ci/run`: `python tests/skips.py REPORT FOLDER`. Exit code 1 names each such test; 2 is a report without tests.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree


@dataclass(frozen=True, slots=True)
class Skip:
    """One skipped test and the reason it gave."""

    test: str
    reason: str


def read_skips(report: Path) -> list[Skip]:
    """Return the skipped tests of a JUnit report, in its order. A report without one test raises ValueError."""
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    if not cases:
        raise ValueError(f"read_skips({str(report)!r}): expected a report of tests, found none in it")
    return [
        Skip(f"{case.get('classname', '')}::{case.get('name', '')}", skipped.get("message", ""))
        for case in cases
        for skipped in case.iter("skipped")
        # pytest reports an expected failure as a skip too; that test did run.
        if skipped.get("type") != "pytest.xfail"
    ]


def needless(skips: list[Skip], data: Path) -> list[Skip]:
    """Return the skips whose reason names shared/data, or a folder in it, though that folder exists."""
    if not data.is_dir():
        return []
    present = [re.escape(entry.name) for entry in data.iterdir() if entry.is_dir()]
    named = re.compile(rf"(?<![\w-])(?:{'|'.join(['shared/data', *present])})(?![\w-])")
    return [skip for skip in skips if named.search(skip.reason)]


def main(report: Path, data: Path) -> int:
    """Print what is wrong with the skips of a run; return the exit code."""
    if not report.is_file():
        print(f"skips: there is no report {report}; did pytest run?")
        return 2
    try:
        skips = read_skips(report)
    except (ValueError, ElementTree.ParseError) as error:
        print(f"skips: {error}")
        return 2
    wrong = needless(skips, data)
    for skip in wrong:
        print(f"skips: {skip.test} was skipped ({skip.reason}) although {data} is there")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
