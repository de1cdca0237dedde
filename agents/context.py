"""Context: a row and an instant come in; all that one decision may look at goes out, typed and hashed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from schemas.context import Context, Related, Summary
from schemas.errors import wrong_return
from schemas.event import Event
from schemas.row import FieldValue, Row, State, WindowItem
from schemas.times import from_ms
from schemas.window import Item, Timed, Window

ParameterKind = Literal["state", "event", "related", "window", "at", "key"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """What one parameter of a context function is given."""

    name: str
    kind: ParameterKind
    # The summary of a relation, the item of a window.
    summary: type[Summary] | None = None
    item: type[Item] | None = None
    within_ms: int = 0


@dataclass(frozen=True, slots=True)
class ContextRules:
    """How one entity's context is built."""

    name: str
    model: type[Context]
    function: Callable[..., Context]
    parameters: tuple[Parameter, ...]


def build(rules: ContextRules, key: str, row: Row[State], at_ms: int, event: Event | None) -> Context:
    """The context as of `at_ms`: windows and relations hold nothing that happened later.

    Raises:
        WrongReturn: the user's function returned something else than its declared context.
    """
    given: dict[str, Any] = {}
    for parameter in rules.parameters:
        if parameter.kind == "window" and parameter.item is not None:
            given[parameter.name] = window_as_of(
                row, parameter.name, parameter.item, parameter.within_ms, at_ms
            )
        elif parameter.kind == "related" and parameter.summary is not None:
            given[parameter.name] = related_as_of(row, parameter.name, parameter.summary, at_ms)
        else:
            given[parameter.name] = single(parameter.kind, key, row.state, at_ms, event)
    context = rules.function(**given)
    if type(context) is not rules.model:
        raise wrong_return(rules.function, rules.model.__name__, context)
    return context


def single(
    kind: ParameterKind, key: str, state: State, at_ms: int, event: Event | None
) -> State | Event | datetime | str | None:
    """A parameter that is one value."""
    if kind == "state":
        return state
    if kind == "event":
        return event
    return key if kind == "key" else from_ms(at_ms)


def window_as_of(row: Row[State], name: str, item: type[Item], within_ms: int, at_ms: int) -> Window[Item]:
    """The entries of a window with `at_ms - within_ms < time <= at_ms`."""
    return Window(
        [
            # Lenient: the row holds JSON, where a time is a string.
            Timed(entry.time_ms, entry.event_id, item.model_validate(entry.value, strict=False))
            for entry in inside(row, name, within_ms, at_ms)
        ]
    )


def inside(row: Row[State], name: str, within_ms: int, at_ms: int) -> list[WindowItem]:
    """The entries that a window shows as of `at_ms`, as the row holds them."""
    return [entry for entry in row.windows.get(name, ()) if at_ms - within_ms < entry.time_ms <= at_ms]


def related_as_of(row: Row[State], name: str, summary: type[Summary], at_ms: int) -> Related[Summary]:
    """The related entities with every field as it was last said at or before `at_ms`.

    An entity that had not yet said all that the summary requires was not yet known.
    """
    return Related(
        {
            # Lenient, also for models inside it: the row holds JSON.
            key: summary.model_validate({field: said.value for field, said in known.items()}, strict=False)
            for key, known in known_by(row, name, summary, at_ms).items()
        }
    )


def known_by(
    row: Row[State], name: str, summary: type[Summary], at_ms: int
) -> dict[str, dict[str, FieldValue]]:
    """Key → field → what was last said at or before `at_ms`, of every related entity that was known then."""
    required = {field for field, info in summary.model_fields.items() if info.is_required()}
    found: dict[str, dict[str, FieldValue]] = {}
    for key, fields in sorted(row.related.get(name, {}).items()):
        values = last_said(fields, at_ms)
        if required <= values.keys() and values:
            found[key] = values
    return found


def last_said(fields: Mapping[str, list[FieldValue]], at_ms: int) -> dict[str, FieldValue]:
    """Field → the last value said at or before `at_ms`."""
    values: dict[str, FieldValue] = {}
    for name, said in fields.items():
        for entry in reversed(said):
            if entry.time_ms <= at_ms:
                values[name] = entry
                break
    return values
