"""Other projects that use our import names: where Python finds ours comes in; one line of complaint, or none, goes out.

Our packages are called `schemas`, `tables`, `agents` and `streams`, because Midstream is an application that lives in
an environment of its own. PyTables installs a package `tables`, openai-agents one called `agents`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

OURS = ("schemas", "tables", "agents", "streams")
# Distribution → the package that it puts in the place of ours.
RIVALS = {"tables": "tables", "openai-agents": "agents"}
CURE = "Midstream needs an environment of its own: python -m venv .venv, and install it there."


def intruder(ours: Iterable[str] = OURS) -> str | None:
    """One line that names the first foreign package in the place of ours; None when there is none."""
    root = Path(__file__).resolve().parents[1]
    for name in ours:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            found = "nothing" if spec is None else "a folder without __init__.py"
            return f"expected our package {name!r} in {root}, found {found}. Install Midstream anew. {CURE}"
        folder = Path(spec.origin).resolve().parent
        if folder.parent != root:
            project = next((dist for dist, package in RIVALS.items() if package == name), "another project")
            return (
                f"the package {name!r} in {folder} is not Midstream's ({project} uses that name, too) and hides ours"
                f" in {root}. {CURE}"
            )
    for rival, name in RIVALS.items():
        # Installed into one folder, the later of the two has overwritten files of the other.
        if installed_into(rival, name) == root / name:
            return f"{rival} is installed into {root / name}, over Midstream's own files. {CURE}"
    return None


def installed_into(rival: str, name: str) -> Path | None:
    """The folder that distribution `rival` uses for its package `name`, if it is installed."""
    try:
        return Path(str(distribution(rival).locate_file(name))).resolve()
    except PackageNotFoundError:
        return None
