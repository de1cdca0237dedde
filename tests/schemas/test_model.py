"""schemas/model.py: what would not come back from JSON as it went is refused when it is declared."""

from __future__ import annotations

import pytest
from pydantic import BaseModel, Field, ValidationError, computed_field, create_model

from schemas.action import ActionInput
from schemas.context import Context, Summary
from schemas.decision import Verdict
from schemas.event import Event
from schemas.model import Declared
from schemas.row import State
from schemas.window import Item


class Inner(BaseModel):
    tags: frozenset[str] = frozenset()


def test_a_set_is_refused_because_its_order_differs_between_processes() -> None:
    with pytest.raises(TypeError, match=r"Tagged: .* a set: its order differs .* Use tuple"):

        class Tagged(Declared):
            tags: set[str]


def test_a_set_inside_another_model_is_found() -> None:
    with pytest.raises(TypeError, match="a set"):

        class Outer(Declared):
            parts: dict[str, list[Inner | None]]


def test_a_computed_field_is_refused_because_it_is_written_but_not_read() -> None:
    with pytest.raises(TypeError, match=r"Doubled\.twice: .* computed"):

        class Doubled(Declared):
            once: int = 1

            @computed_field  # type: ignore[prop-decorator] # pydantic's documented form
            @property
            def twice(self) -> int:
                return self.once * 2


def test_an_excluded_field_is_refused_because_it_is_lost() -> None:
    with pytest.raises(TypeError, match=r"Hidden\.secret: .* excluded"):

        class Hidden(Declared):
            secret: str = Field(default="", exclude=True)


def test_what_json_keeps_is_taken() -> None:
    class Plain(Declared):
        tags: tuple[str, ...] = ()
        counts: dict[str, int] = Field(default_factory=dict)

        @property
        def total(self) -> int:
            return sum(self.counts.values())

    assert Plain(counts={"a": 1, "b": 2}).total == 3


@pytest.mark.parametrize("base", [ActionInput, Context, Event, Item, State, Summary, Verdict])
def test_everything_an_author_declares_is_checked(base: type[Declared]) -> None:
    with pytest.raises(TypeError, match="a set"):
        create_model("Tagged", __base__=base, tags=(set[str], ...))


@pytest.mark.parametrize("base", [ActionInput, Context, Event, Item, State])
@pytest.mark.parametrize("wrong", ['{"n":"1"}', '{"n":1,"m":2}', '{"n":NaN}'])
def test_everything_an_author_declares_is_strict(base: type[Declared], wrong: str) -> None:
    counted = create_model("Counted", __base__=base, n=(float, ...))
    assert counted.model_validate_json('{"n":1}').model_dump() == {"n": 1.0}
    with pytest.raises(ValidationError):
        counted.model_validate_json(wrong)
