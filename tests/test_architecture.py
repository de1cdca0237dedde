"""The repository's files -> the rules of the house that no other tool checks, each as a test that names the offender.

Lengths are tripwires: a module or function that trips one is read again and usually has two jobs. They are counted
without docstrings, so that nobody saves on those.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "tables", "agents", "streams")
CODE = (*PACKAGES, "examples", "benchmarks")

MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60

# Modules whose behaviour is tested elsewhere, each with the place. A name that is not needed here fails a test.
THROUGH_BROKER = (
    "a part of streams.broker: tested through it on a real Kafka (test_broker, test_broker_lifecycle)"
)
WITHOUT_MIRROR: dict[str, str] = {
    "streams/embedded/folder.py": THROUGH_BROKER,
    "streams/embedded/guard.py": THROUGH_BROKER,
    "streams/embedded/launch.py": THROUGH_BROKER,
    "streams/embedded/log.py": THROUGH_BROKER,
    "streams/embedded/probe.py": THROUGH_BROKER,
    "streams/embedded/process.py": THROUGH_BROKER,
    "streams/commands/broker.py": "every command is run on a real broker in tests/broker/test_broker_lifecycle.py",
}


def modules(*folders: str) -> list[Path]:
    """Every Python file in these folders, by its path from the repository."""
    found = [path.relative_to(ROOT) for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert found, folders
    return sorted(found)


def parse(module: Path) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"), filename=str(module))


def modules_of_tests() -> list[Path]:
    return [module for module in modules("tests") if module.name.startswith("test_")]


# --- modules and functions ---------------------------------------------------------------------------------------


def test_every_module_says_what_comes_in_and_what_goes_out() -> None:
    silent = [str(module) for module in modules(*CODE, "tests") if not ast.get_docstring(parse(module))]

    assert not silent, f"these modules have no docstring: {silent}"


def docstring_lines(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    first = node.body[0] if node.body else None
    if ast.get_docstring(node) is None or not isinstance(first, ast.Expr):
        return 0
    return (first.end_lineno or first.lineno) - first.lineno + 1


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_no_module_is_too_long() -> None:
    long = {
        str(module): lines
        for module in modules(*CODE)
        if (
            lines := len((ROOT / module).read_text(encoding="utf-8").splitlines())
            - docstring_lines(parse(module))
        )
        > MODULE_LINES_MAX
    }

    assert not long, f"longer than {MODULE_LINES_MAX} lines: {long}"


def test_no_function_is_too_long() -> None:
    long = {
        f"{module}:{function.lineno} {function.name}": lines
        for module in modules(*CODE)
        for function in functions(parse(module))
        if (lines := (function.end_lineno or 0) - function.lineno + 1 - docstring_lines(function))
        > FUNCTION_LINES_MAX
    }

    assert not long, f"longer than {FUNCTION_LINES_MAX} lines: {long}"


def test_each_layer_has_its_module() -> None:
    layers = {"data.py", "state.py", "context.py", "decision.py", "action.py"}

    assert layers <= {module.name for module in modules("agents")}


# --- which way imports point -------------------------------------------------------------------------------------


def imported(tree: ast.Module) -> set[str]:
    """The top-level packages that a module imports, wherever in it."""
    roots: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.partition(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.partition(".")[0])
    return roots


def test_schemas_need_pydantic_and_the_standard_library_alone() -> None:
    allowed = sys.stdlib_module_names | {"pydantic", "pydantic_core", "schemas"}
    foreign = {
        str(module): found for module in modules("schemas") if (found := imported(parse(module)) - allowed)
    }

    assert not foreign, (
        f"schemas may import pydantic, pydantic_core and the standard library; found {foreign}"
    )


def test_the_import_contracts_hold() -> None:
    lint = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run(
        [lint, "--no-logo", "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_package_is_under_the_contracts_and_in_the_wheel() -> None:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}

    assert set(tool["importlinter"]["root_packages"]) == packages
    assert set(tool["hatch"]["build"]["targets"]["wheel"]["packages"]) == packages


# --- tests -------------------------------------------------------------------------------------------------------


def mirrors(module: Path) -> list[Path]:
    """Where a module's test may be: beside its kin, or among those that need a broker."""
    name = f"test_{module.stem}.py"
    return [ROOT / "tests" / module.parent / name, ROOT / "tests" / "broker" / name]


def needs_mirror(module: Path) -> bool:
    # A package's __init__ that only gathers names has nothing to test.
    return module.name != "__init__.py" or any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in parse(module).body
    )


def test_every_module_has_its_test() -> None:
    alone = [
        str(module)
        for module in modules(*PACKAGES)
        if needs_mirror(module)
        and str(module) not in WITHOUT_MIRROR
        and not any(mirror.is_file() for mirror in mirrors(module))
    ]

    assert not alone, f"no tests/<folder>/test_<module>.py for {alone}"


def test_the_list_of_modules_without_a_test_holds_no_stale_name() -> None:
    stale = [
        name
        for name in WITHOUT_MIRROR
        if not (ROOT / name).is_file() or any(mirror.is_file() for mirror in mirrors(Path(name)))
    ]

    assert not stale, f"take these out of WITHOUT_MIRROR: {stale}"
    assert all(len(reason) > 10 for reason in WITHOUT_MIRROR.values())


CHECKS = {"raises", "warns", "fail", "deprecated_call", "run_state_machine_as_test"}


def checks_something(function: ast.AST) -> bool:
    """Whether a test can fail by itself: it asserts, expects an error, or calls a helper named check_ or assert_."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in CHECKS or name.startswith(("check_", "assert_")):
                return True
    return False


def test_no_test_is_without_a_check() -> None:
    idle = [
        f"{module}:{function.lineno} {function.name}"
        for module in modules_of_tests()
        for function in functions(parse(module))
        if function.name.startswith("test_")
        and function.name != "test_modules"
        and not checks_something(function)
    ]

    assert not idle, f"these tests cannot fail: {idle}"


@pytest.mark.parametrize(
    ("body", "checks"),
    [
        ("assert 1", True),
        ("with pytest.raises(ValueError): f()", True),
        ("check_rows(1)", True),
        ("f()", False),
        ("print('assert')", False),
    ],
)
def test_a_check_is_told_from_none(body: str, checks: bool) -> None:
    assert checks_something(ast.parse(f"def test_it():\n    {body}")) is checks


REASONED = {
    "pytest.skip",
    "pytest.mark.skip",
    "pytest.mark.skipif",
    "pytest.mark.xfail",
    "pytest.importorskip",
}
REASON_COMES_FIRST = {"pytest.skip"}


def reasonless(tree: ast.AST) -> list[int]:
    """The lines where a test is skipped, or expected to fail, without saying why."""
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) in REASONED
    ]
    called = {id(call.func) for call in calls}
    bare = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in REASONED and id(node) not in called
    ]
    unexplained = [
        call.lineno
        for call in calls
        if not any(keyword.arg == "reason" for keyword in call.keywords)
        and not (ast.unparse(call.func) in REASON_COMES_FIRST and call.args)
    ]
    return bare + unexplained


def test_every_skip_has_a_reason() -> None:
    silent = [f"{module}:{line}" for module in modules("tests") for line in reasonless(parse(module))]

    assert not silent, f"skipped without a reason: {silent}"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("pytest.skip('no kcat')", []),
        ("pytest.skip()", [1]),
        ("@pytest.mark.skip\ndef f(): ...", [1]),
        ("@pytest.mark.skipif(True)\ndef f(): ...", [1]),
        ("@pytest.mark.skipif(True, reason='no kcat')\ndef f(): ...", []),
        ("pytest.importorskip('river')", [1]),
    ],
)
def test_a_reason_is_told_from_none(code: str, lines: list[int]) -> None:
    assert reasonless(ast.parse(code)) == lines


# --- what no file may say ----------------------------------------------------------------------------------------

# Patterns, not names: this file must not say them either. A made-up home is somebody called "someone".
REGISTRY_HOST = re.compile(
    r"\b[\w.-]*(?:pypi|pythonhosted|maven|npmjs|crates|golang|debian|ghcr|quay)[\w.-]*\.(?:org|com|net|io)\b",
    re.IGNORECASE,
)
MACHINE_PATH = re.compile(r"(?<![\w.)}/-])/(?:work|tmp|root|(?:home|Users)/(?!someone\b)\w+)(?![\w-])")


def versioned_files() -> list[Path]:
    """What git holds or would add: nothing that a run made."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize(
    ("pattern", "what"),
    [(REGISTRY_HOST, "a package registry's host"), (MACHINE_PATH, "a path of somebody's machine")],
    ids=["registry", "path"],
)
def test_no_file_names(pattern: re.Pattern[str], what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in versioned_files()
        for number, line in enumerate(
            path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1
        )
        if (match := pattern.search(line))
    ]

    assert not found, f"{what}: {found}"


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (REGISTRY_HOST, "https://py" + "pi.org/simple", True),
        (REGISTRY_HOST, "repo1.mav" + "en.apache.org", True),
        (REGISTRY_HOST, "keepachangelog.com, docker-compose.yml, apache/kafka:4.3.1", False),
        (MACHINE_PATH, "cd /" + "work/main", True),
        (MACHINE_PATH, "'/" + "home/ann/x'", True),
        (MACHINE_PATH, "framework/tmp, ${HOME}/work, https://example.org/work", False),
    ],
)
def test_what_may_not_be_said_is_recognised(pattern: re.Pattern[str], text: str, matches: bool) -> None:
    assert bool(pattern.search(text)) is matches


# --- what the documents say --------------------------------------------------------------------------------------


def blocks(document: str) -> list[str]:
    """The fenced blocks of a Markdown file, in order."""
    return re.findall(
        r"^```\w*\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def tree_paths(block: str) -> list[Path]:
    """The paths that a drawn tree names: one `name/` or `name.ext` a line, deeper by its indentation, then prose."""
    paths: list[Path] = []
    above: list[tuple[int, Path]] = []
    for line in block.splitlines():
        match = re.match(r"( *)([\w.-]+/|[\w-]+\.[a-z]+)(?:\s|$)", line)
        if match is None:
            continue
        indent = len(match[1])
        above = [(depth, path) for depth, path in above if depth < indent]
        path = above[-1][1] / match[2] if above else Path(match[2])
        above.append((indent, path))
        paths.append(path)
    return paths


def test_a_tree_is_read_by_its_indentation() -> None:
    block = "schemas/   what crosses a topic\n  keys.py  keys\n  more/\n    a.py\n       and more\ntables/\n"

    assert tree_paths(block) == [
        Path(name) for name in ("schemas", "schemas/keys.py", "schemas/more", "schemas/more/a.py", "tables")
    ]


def test_the_architecture_page_draws_the_tree_that_is_there() -> None:
    trees = [paths for block in blocks("ARCHITECTURE.md") if Path("schemas") in (paths := tree_paths(block))]
    assert len(trees) == 1, "ARCHITECTURE.md has one fenced block with a line `schemas/`: the tree"
    [drawn] = trees
    missing = [str(path) for path in drawn if not (ROOT / path).exists()]
    unnamed = [
        str(module) for module in modules(*CODE) if module.name != "__init__.py" and module not in drawn
    ]

    assert not missing, f"ARCHITECTURE.md draws what is not there: {missing}"
    assert not unnamed, f"ARCHITECTURE.md does not draw: {unnamed}"
    assert {Path(folder) for folder in (*CODE, "tests")} <= set(drawn)


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    commands = [
        line.partition("#")[0].strip() for block in blocks("README.md") for line in block.splitlines()
    ]
    run = [line.strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]

    assert "make test" in commands
    assert "make test" in run
