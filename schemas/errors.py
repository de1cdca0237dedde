"""Mistakes of a pipeline's author that only show when a function runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class WrongReturn(TypeError):
    """A function of the pipeline's author returned something else than it declares."""


def wrong_return(function: Callable[..., Any], expected: str, came: Any) -> WrongReturn:
    """The error for `function`, which returned `came`."""
    name = f"{function.__module__}.{function.__qualname__}"
    return WrongReturn(f"{name} must return {expected}, got {type(came).__name__}")
