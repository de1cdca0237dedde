"""What a user's function says of itself: annotations in, checked types out, or an error that names the function."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from hashlib import sha256
from typing import Any, Literal, Union


class PipelineError(Exception):
    """A mistake in a pipeline file: which function, what was expected, what came, what to do."""


def name_of(function: Callable[..., Any]) -> str:
    """How errors name a user's function: module, name and line."""
    code = getattr(function, "__code__", None)
    line = "" if code is None else f" (line {code.co_firstlineno})"
    return f"{function.__module__}.{function.__qualname__}{line}"


def mistake(function: Callable[..., Any] | str, expected: str, came: str, cure: str) -> PipelineError:
    """The error for one mistake."""
    name = function if isinstance(function, str) else name_of(function)
    return PipelineError(f"{name}: expected {expected}, got {came}. {cure}")


def wired(function: Callable[..., Any]) -> tuple[dict[str, Any], Any]:
    """Parameter name → annotation, and the return annotation.

    Raises:
        PipelineError: an annotation is missing or names something unknown.
    """
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise mistake(
            function, "annotations that can be read", str(error), "Import or define the name."
        ) from None
    parameters = inspect.signature(function).parameters
    for name in [*parameters, "return"]:
        if name not in hints:
            what = "a return annotation" if name == "return" else f"an annotation on parameter {name!r}"
            raise mistake(function, what, "none", "Annotate it: the pipeline is wired by types.")
    return {name: hints[name] for name in parameters}, hints["return"]


def alternatives(annotation: Any) -> list[Any]:
    """The members of a union without None; a single type is its only member."""
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return [member for member in typing.get_args(annotation) if member is not type(None)]
    return [annotation]


def optional(annotation: Any) -> bool:
    """Whether None is among the alternatives."""
    return type(None) in typing.get_args(annotation)


def subclass(annotation: Any, base: type) -> bool:
    """Whether `annotation` is a proper subclass of `base`."""
    return isinstance(annotation, type) and issubclass(annotation, base) and annotation is not base


def one_of(where: Callable[..., Any] | str, name: str, value: str, *known: str) -> None:
    """Refuse a `value` of argument `name` that is none of the `known` words: a misspelt one fails at start-up.

    Raises:
        PipelineError: names the argument and the words.
    """
    if value not in known:
        words = ", ".join(known)
        raise mistake(where, f"{name}= to be one of {words}", repr(value), "Mend the word.")


def literals(annotation: Any) -> tuple[str, ...]:
    """The values of a Literal annotation, or () when it is something else."""
    return typing.get_args(annotation) if typing.get_origin(annotation) is Literal else ()


def version_of(function: Callable[..., Any]) -> str:
    """Twelve hex digits that change when the function's source does."""
    try:
        source = inspect.getsource(function)
    except OSError:  # Typed in at a prompt: there is no file to read.
        source = function.__code__.co_code.hex()
    return sha256(source.encode()).hexdigest()[:12]
