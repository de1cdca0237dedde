"""streams/signatures.py: what annotations say, and what a mistake says."""

from __future__ import annotations

import linecache
from collections.abc import Callable
from typing import Any, Literal, Optional, Union

import pytest

from streams.signatures import (
    PipelineError,
    alternatives,
    literals,
    mistake,
    name_of,
    optional,
    subclass,
    version_of,
    wired,
)


class Base:
    pass


class Derived(Base):
    pass


def good(one: int, two: str | None = None) -> Derived | None:
    """Annotated throughout."""


def test_annotations_come_in_the_order_of_the_parameters() -> None:
    given, returned = wired(good)
    assert list(given.items()) == [("one", int), ("two", str | None)]
    assert returned == Derived | None


def bare(one) -> int:  # type: ignore[no-untyped-def] # the point
    return int(one)


def endless(one: int):  # type: ignore[no-untyped-def] # the point
    return one


def unknown(one: Nobody) -> int:  # type: ignore[name-defined]  # noqa: F821 - the point
    return 1


@pytest.mark.parametrize(
    ("function", "what"),
    [
        (bare, "an annotation on parameter 'one'"),
        (endless, "a return annotation"),
        (unknown, "annotations that can be read"),
    ],
)
def test_what_is_missing_is_named_with_the_function_and_its_line(
    function: Callable[..., Any], what: str
) -> None:
    with pytest.raises(PipelineError) as caught:
        wired(function)
    line = function.__code__.co_firstlineno
    assert str(caught.value).startswith(
        f"{__name__}.{function.__name__} (line {line}): expected {what}, got "
    )


def test_a_mistake_says_where_what_and_what_to_do() -> None:
    assert str(mistake("decision 'x'", "a route", "none", "Add one.")) == (
        "decision 'x': expected a route, got none. Add one."
    )


def test_a_builtin_has_a_name_without_a_line() -> None:
    assert name_of(len) == "builtins.len"


@pytest.mark.parametrize(
    ("annotation", "members", "none"),
    [
        (int, [int], False),
        (int | None, [int], True),
        (Optional[int], [int], True),  # noqa: UP045 - both spellings come
        (Union[int, str], [int, str], False),  # noqa: UP007
        (int | str | None, [int, str], True),
        (list[int], [list[int]], False),
    ],
)
def test_a_union_is_taken_apart(annotation: Any, members: list[Any], none: bool) -> None:
    assert alternatives(annotation) == members
    assert optional(annotation) == none


@pytest.mark.parametrize(
    ("annotation", "is_one"), [(Derived, True), (Base, False), (int, False), ("Derived", False)]
)
def test_a_base_is_not_its_own_subclass(annotation: Any, is_one: bool) -> None:
    assert subclass(annotation, Base) is is_one


@pytest.mark.parametrize(
    ("annotation", "values"), [(Literal["a", "b"], ("a", "b")), (str, ()), (list[str], ())]
)
def test_a_literal_names_its_values(annotation: Any, values: tuple[str, ...]) -> None:
    assert literals(annotation) == values


def made(source: str, name: str = "<rule 1>") -> Callable[..., Any]:
    """A function as a file with that source would hold it."""
    scope: dict[str, Any] = {"__name__": __name__}
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    exec(compile(source, name, "exec"), scope)
    found: Callable[..., Any] = scope["rule"]
    return found


def test_a_version_changes_with_the_source_alone() -> None:
    one = version_of(made("def rule(x):\n    return x > 1\n", "<a>"))
    same = version_of(made("def rule(x):\n    return x > 1\n", "<b>"))
    other = version_of(made("def rule(x):\n    return x > 2\n", "<c>"))
    assert one == same != other
    assert len(one) == 12


def test_a_function_without_a_file_has_a_version_too() -> None:
    scope: dict[str, Any] = {}
    exec("def one(x): return x > 1\ndef two(x): return x < 1", scope)
    assert version_of(scope["one"]) != version_of(scope["two"])
