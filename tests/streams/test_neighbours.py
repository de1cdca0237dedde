"""Foreign packages under our names: found, named, and told in one line by the command line itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from streams import neighbours

ROOT = Path(__file__).parents[2]


def test_here_everything_is_ours() -> None:
    assert neighbours.intruder() is None


def package(folder: Path, name: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("")


@pytest.mark.parametrize(("name", "project"), [("tables", "tables"), ("agents", "openai-agents")])
def test_a_package_in_the_place_of_ours_is_said_in_one_line(name: str, project: str, tmp_path: Path) -> None:
    package(tmp_path, name)

    run = subprocess.run(
        [sys.executable, "-m", "streams.cli", "check", "examples/tickets.py"],
        cwd=ROOT,
        # Found before the working directory's own, as site-packages is before an editable install.
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "PYTHONSAFEPATH": "1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 78
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1, run.stderr
    assert f"'{name}' in {tmp_path / name}" in run.stderr
    assert f"{project} uses that name" in run.stderr
    assert "python -m venv" in run.stderr


def test_files_that_another_project_laid_over_ours_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # PyTables' metadata beside our packages: it was installed into the same folder.
    metadata = tmp_path / "tables-3.10.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: tables\nVersion: 3.10\n")
    for name in neighbours.OURS:
        package(tmp_path, name)
    monkeypatch.setattr(neighbours, "__file__", str(tmp_path / "streams" / "neighbours.py"))
    monkeypatch.syspath_prepend(tmp_path)
    for name in [known for known in sys.modules if known.partition(".")[0] in neighbours.OURS]:
        monkeypatch.delitem(sys.modules, name)

    complaint = neighbours.intruder()

    assert complaint is not None
    assert f"tables is installed into {tmp_path / 'tables'}" in complaint


def test_a_package_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    complaint = neighbours.intruder([*neighbours.OURS, "no_such_package"])

    assert complaint is not None
    assert "'no_such_package'" in complaint
    assert "Install Midstream anew" in complaint
