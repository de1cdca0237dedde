"""README and docs tell the truth: their Python runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of `page` in `language`, in order."""
    return [body for found, body in BLOCK.findall(page.read_text()) if found == language]


def commands(page: Path) -> list[list[str]]:
    """Every `midstream …` command in the shell blocks of `page`, continued lines joined, as words."""
    lines = "\n".join(blocks(page, "sh") + blocks(page, "console")).replace("\\\n", " ").splitlines()
    found = []
    for line in lines:
        words = shlex.split(line.removeprefix("$ "), comments=True)
        for at, word in enumerate(words):
            if word.endswith("midstream") and at < len(words) - 1:
                rest = words[at + 1 :]
                end = next((i for i, w in enumerate(rest) if w in ("|", ">", "&&", ";", "2>")), len(rest))
                found.append(rest[:end])
                break
    return found


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda page: page.name)
def test_python_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    program = tmp_path / f"page_{page.stem.lower()}.py"
    # As a module, not as a program: what stands under `if __name__ == "__main__"` needs a broker of the reader's.
    program.write_text("\n".join(blocks(page, "python")))
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {program.stem}"],
        # What a page writes, it writes beside itself: here, not into the repository.
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda page: page.name)
def test_commands_of_a_page_exist(page: Path) -> None:
    for words in commands(page):
        names = []
        for word in words:
            if not re.fullmatch(r"[a-z][a-z-]*", word) or "." in word:
                break
            names.append(word)
        run = subprocess.run(
            [sys.executable, "-m", "streams.cli", *names, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert run.returncode == 0, f"{page.name}: midstream {' '.join(words)}: {run.stderr or run.stdout}"
        for option in (word.split("=")[0] for word in words if word.startswith("--") and word != "--"):
            if "--" in words and words.index(option) > words.index("--"):
                continue  # Kafka's own options, behind the separator.
            assert option in run.stdout, f"{page.name}: midstream {' '.join(words)}: no option {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text())
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert not missing
