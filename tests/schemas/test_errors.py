"""schemas/errors.py: a wrong return names the function, what was expected and what came."""

from __future__ import annotations

from schemas.errors import WrongReturn, wrong_return


def departed() -> None:
    """Stand for a pipeline author's function."""


def test_a_wrong_return_says_which_function_what_was_expected_and_what_came() -> None:
    error = wrong_return(departed, "Flight", {"status": "departed"})
    assert isinstance(error, WrongReturn)
    assert str(error) == f"{__name__}.departed must return Flight, got dict"
