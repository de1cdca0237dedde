"""The manifest of a context: rules, a row and an instant come in; every fact that the context function was given goes
out, with the event that said it and its age; and what it was not given, and why.

A context is what the author's function made of these facts. The manifest says what it had to make it of.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import from_json, to_json

from agents.context import ContextRules, Parameter, inside, known_by
from schemas.event import Envelope
from schemas.row import Row, Stamp, State
from schemas.times import age

Why = Literal["later", "too_old", "not_yet_known", "never_said", "thrown_away"]
WHY: Mapping[Why, str] = {
    "later": "it happened after the instant that the decision is about",
    "too_old": "it lies before the window",
    "not_yet_known": "not all that the summary requires had been said by then",
    "never_said": "nobody has said it: the field has its default",
    "thrown_away": "a declared bound was reached",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that the context function was told."""

    # To cite it by: `state.status`, `event.amount`, `orders/o1.amount`, `payments/2`.
    id: str
    value: Any
    # Who said it, and when; None where the row no longer knows (its history is bounded).
    event_id: str | None
    time_ms: int | None
    # In words, before the instant; "" where the time is not known.
    age: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What the context function was not told, and why; `count` of the kind."""

    what: str
    why: Why
    count: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a context stands on, as of `at_ms`."""

    at_ms: int
    facts: tuple[Fact, ...]
    left_out: tuple[LeftOut, ...]


def manifest(
    rules: ContextRules, key: str, row: Row[State], at_ms: int, trigger: Envelope | None
) -> Manifest:
    """The manifest of the context that `agents.context.build` makes of the same row and instant.

    Args:
        rules: how the context is built: only what its function asks for is a fact.
        key: which entity.
        row: as the decision saw it.
        at_ms: the instant that the decision is about.
        trigger: the event that made it look; None for a moment.
    """
    facts: list[Fact] = []
    left_out: list[LeftOut] = []
    for parameter in rules.parameters:
        for each in told(parameter, key, row, at_ms, trigger):
            (facts if isinstance(each, Fact) else left_out).append(each)  # type: ignore[arg-type] # told apart here
    return Manifest(at_ms, tuple(facts), tuple(left_out))


def told(
    parameter: Parameter, key: str, row: Row[State], at_ms: int, trigger: Envelope | None
) -> Iterator[Fact | LeftOut]:
    """What one parameter of the function is given, and not given."""
    if parameter.kind == "state":
        yield from of_state(row, at_ms)
    elif parameter.kind == "event" and trigger is not None:
        for name, value in from_json(trigger.data).items():
            yield fact(f"event.{name}", value, Stamp(trigger.time_ms, trigger.id), at_ms)
    elif parameter.kind == "related":
        yield from of_related(parameter, row, at_ms)
    elif parameter.kind == "window":
        yield from of_window(parameter, row, at_ms)
    elif parameter.kind == "key":
        yield Fact("key", key, None, None, "")


def fact(id: str, value: Any, said: Stamp | None, at_ms: int) -> Fact:
    """A fact with its age."""
    if said is None:
        return Fact(id, value, None, None, "")
    return Fact(id, value, said.event_id or None, said.time_ms, age(at_ms - said.time_ms))


def of_state(row: Row[State], at_ms: int) -> Iterator[Fact | LeftOut]:
    """The fields of the state, each with the event that set it last."""
    # Order `latest` remembers who set each field; elsewhere the history tells, as far as it goes back.
    said = {name: Stamp(each.time_ms, each.event_id) for each in row.changes for name in each.fields}
    said |= row.set_by
    values, defaults = row.state.model_dump(mode="json"), type(row.state)().model_dump(mode="json")
    for name, value in values.items():
        if name in said or value != defaults[name]:
            yield fact(f"state.{name}", value, said.get(name), at_ms)
        else:
            yield LeftOut(f"state.{name}", "never_said", 1)


def of_related(parameter: Parameter, row: Row[State], at_ms: int) -> Iterator[Fact | LeftOut]:
    """Every field of every related entity as it was last said by the instant."""
    assert parameter.summary is not None, "a relation has a summary"
    name, held = parameter.name, row.related.get(parameter.name, {})
    known = known_by(row, name, parameter.summary, at_ms)
    for key, fields in known.items():
        for field, said in fields.items():
            yield fact(f"{name}/{key}.{field}", said.value, Stamp(said.time_ms, said.event_id), at_ms)
    later = sum(
        entry.time_ms > at_ms for fields in held.values() for said in fields.values() for entry in said
    )
    yield from gone(name, "not_yet_known", len(held) - len(known))
    yield from gone(name, "later", later)
    yield from gone(name, "thrown_away", row.evicted.get(name, 0))


def of_window(parameter: Parameter, row: Row[State], at_ms: int) -> Iterator[Fact | LeftOut]:
    """Every entry of a window, oldest first."""
    name, held = parameter.name, row.windows.get(parameter.name, ())
    for number, entry in enumerate(inside(row, name, parameter.within_ms, at_ms)):
        yield fact(f"{name}/{number}", entry.value, Stamp(entry.time_ms, entry.event_id), at_ms)
    yield from gone(name, "too_old", sum(entry.time_ms <= at_ms - parameter.within_ms for entry in held))
    yield from gone(name, "later", sum(entry.time_ms > at_ms for entry in held))
    yield from gone(name, "thrown_away", row.evicted.get(name, 0))


def gone(what: str, why: Why, count: int) -> Iterator[LeftOut]:
    """What was left out, if anything was."""
    if count:
        yield LeftOut(what, why, count)


def rendered(of: Manifest, decision: str, about: str, context: str) -> str:
    """The context and its facts as a model reads them: facts have ids to cite, and nothing in them is an instruction.

    Args:
        of: the manifest.
        decision: what is to be decided.
        about: `entity:key`.
        context: the context as JSON.
    """
    lines = [
        f"<context decision={attribute(decision)} about={attribute(about)}>",
        escaped(context),
        "</context>",
        "<facts>",
    ]
    for each in of.facts:
        old = f" age={attribute(each.age)}" if each.age else ""
        lines.append(f"<fact id={attribute(each.id)}{old}>{escaped(text(each.value))}</fact>")
    lines.append("</facts>")
    return "\n".join(lines)


def text(value: Any) -> str:
    """A fact's value: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else to_json(value).decode()


def escaped(of: str) -> str:
    """Text in which no tag begins and no entity: what the world says cannot end the block that it stands in."""
    return of.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def attribute(of: str) -> str:
    """A quoted attribute."""
    return '"' + escaped(of).replace('"', "&quot;").replace("\n", "&#10;") + '"'
