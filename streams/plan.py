"""A declared pipeline comes in; the checked, frozen rules that the lanes run go out."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from traceback import extract_tb
from typing import Any

from agents.action import ActionRules
from agents.context import ContextRules
from agents.data import Bare, EventType
from agents.decision import DecisionRules
from agents.state import StateRules
from schemas.event import Event
from schemas.row import State
from schemas.times import duration_ms, to_ms
from streams.decisions import Decision
from streams.pipeline import Entity, Pipeline
from streams.signatures import PipelineError, mistake


@dataclass(frozen=True, slots=True)
class DecisionPlan:
    """One decision with its context and its actions."""

    rules: DecisionRules
    context: ContextRules
    actions: Mapping[str, ActionRules]


@dataclass(frozen=True, slots=True)
class EntityPlan:
    """One kind of entity, ready to run."""

    name: str
    state: type[State]
    rules: StateRules
    # How far its facts have travelled: 1 straight from ingest, n+1 when entities of rank n send them on.
    rank: int
    decisions: tuple[DecisionPlan, ...]
    stale_after_ms: int | None

    def decision(self, name: str) -> DecisionPlan:
        """The decision called `name`."""
        return next(plan for plan in self.decisions if plan.rules.name == name)


@dataclass(frozen=True, slots=True)
class Copy:
    """Another entity that hears an event: the owner's lane sends it on."""

    entity: str
    key_field: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A pipeline, ready to run."""

    name: str
    version: int
    types: Mapping[str, EventType]
    bare: Mapping[str, Bare]
    entities: Mapping[str, EntityPlan]
    copies: Mapping[str, tuple[Copy, ...]]
    max_body_bytes: int
    earliest_ms: int
    ahead_ms: int

    @property
    def ranks(self) -> int:
        """The highest rank of any entity."""
        return max(entity.rank for entity in self.entities.values())


def load(path: Path) -> Pipeline:
    """The one `Pipeline` that the Python file at `path` declares.

    Raises:
        PipelineError: no such file, the file fails, or it declares none or several.
    """
    if not path.is_file():
        raise PipelineError(f"{path}: no such file. Name a Python file that declares a streams.Pipeline.")
    spec = importlib.util.spec_from_file_location(f"pipeline_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise PipelineError(f"{path}: not a Python file. Name one that declares a streams.Pipeline.")
    module = importlib.util.module_from_spec(spec)
    # Annotations are resolved through sys.modules; a pipeline may import its neighbours.
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent.parent))
    try:
        spec.loader.exec_module(module)
    except PipelineError:
        raise
    except Exception as error:
        lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == str(path)]
        at = f" (line {lines[-1]})" if lines else ""
        raise PipelineError(f"{path}: {type(error).__name__}: {error}{at}") from error
    finally:
        sys.path.pop(0)
    # One pipeline may have several names.
    found = list(
        {id(value): value for value in vars(module).values() if isinstance(value, Pipeline)}.values()
    )
    if len(found) != 1:
        raise PipelineError(f"{path}: expected one streams.Pipeline at top level, got {len(found)}.")
    return found[0]


def compile_plan(pipeline: Pipeline) -> Plan:
    """Check what only the whole can show, and freeze it.

    Raises:
        PipelineError: an action without handler, an unreachable route, high stakes without a person, two models
            for one event type, a cycle of links; the message names the function or declaration.
    """
    if not pipeline.entities:
        raise mistake(
            f"Pipeline {pipeline.name!r}", "at least one entity", "none", "Declare one with .entity()."
        )
    if pipeline.earliest.tzinfo is None:
        where, came = f"Pipeline {pipeline.name!r}", str(pipeline.earliest)
        raise mistake(where, "earliest= with a zone", came, "Add tzinfo=UTC.")
    types: dict[str, EventType] = {}
    copies: dict[str, tuple[Copy, ...]] = {}
    for entity in pipeline.entities.values():
        for name, event in entity.events.items():
            place(types, copies, entity, name, event)
    return Plan(
        name=pipeline.name,
        version=pipeline.version,
        types=types,
        bare=dict(pipeline.bare),
        entities={
            entity.name: entity_plan(entity, rank(pipeline, types, copies, entity.name))
            for entity in pipeline.entities.values()
        },
        copies=copies,
        max_body_bytes=pipeline.max_body_bytes,
        earliest_ms=to_ms(pipeline.earliest),
        ahead_ms=duration_ms(pipeline.ahead),
    )


def place(
    types: dict[str, EventType],
    copies: dict[str, tuple[Copy, ...]],
    entity: Entity[Any],
    name: str,
    event: type[Event],
) -> None:
    """Give event type `name` to its owner, or `entity` a copy of it."""
    key_field = entity.key_field(event, f"entity {entity.name!r}")
    known = types.get(name)
    if known is None:
        types[name] = EventType(event, entity.name, key_field)
        copies[name] = ()
    elif known.model is not event:
        came = f"{known.model.__name__} and {event.__name__}"
        raise mistake(f"event type {name!r}", "one model", came, "Share the class.")
    else:
        copies[name] = (*copies[name], Copy(entity.name, key_field))


def rank(
    pipeline: Pipeline,
    types: Mapping[str, EventType],
    copies: Mapping[str, tuple[Copy, ...]],
    name: str,
    path: tuple[str, ...] = (),
) -> int:
    """The longest way by which facts reach entity `name`."""
    if name in path:
        way = " → ".join([*path[path.index(name) :], name])
        raise mistake(f"entity {name!r}", "links without a cycle", way, "Let one side hold the relation.")
    senders = {
        types[event].owner
        for event, targets in copies.items()
        if any(copy.entity == name for copy in targets)
    }
    senders |= {
        e.name
        for e in pipeline.entities.values()
        if any(link.target == name for link in e.links_out.values())
    }
    return 1 + max(
        (rank(pipeline, types, copies, sender, (*path, name)) for sender in senders - {name}), default=0
    )


def entity_plan(entity: Entity[Any], its_rank: int) -> EntityPlan:
    """The frozen rules of one entity."""
    return EntityPlan(
        name=entity.name,
        state=entity.state,
        rules=StateRules(
            entity=entity.name,
            state=entity.state,
            order=entity.order,
            reducers=dict(entity.reducers),
            windows=tuple(entity.windows.values()),
            links_out=tuple(entity.links_out.values()),
            links_in=dict(entity.links_in),
            dedupe_within_ms=duration_ms(entity.bounds.dedupe.within),
            dedupe_limit=entity.bounds.dedupe.limit,
            history_limit=entity.bounds.history,
            grace_ms=duration_ms(entity.bounds.grace),
            workflow=entity.steps,
            tail_limit=entity.bounds.tail if entity.order == "refold" else 0,
        ),
        rank=its_rank,
        decisions=tuple(decision_plan(entity, decision) for decision in entity.decisions.values()),
        stale_after_ms=None if entity.stale_after is None else duration_ms(entity.stale_after),
    )


def decision_plan(entity: Entity[Any], decision: Decision[Any, Any]) -> DecisionPlan:
    """The frozen rules of one decision, checked as a whole."""
    where = f"decision {decision.name!r}"
    if not decision.routes:
        raise mistake(where, "at least one route", "none", f"Declare one with @{decision.name}.rule.")
    actions = decision.verdict_actions()
    if not actions:
        came = f"{decision.verdict.__name__}.action: {decision.verdict.model_fields['action'].annotation}"
        raise mistake(where, "an action: Literal[…] on its verdict", came, "Name the actions it may choose.")
    for name in actions:
        if name not in decision.actions:
            cure = f"Declare it with @{decision.name}.action({name!r}, stakes=…)."
            raise mistake(where, f"a handler for action {name!r}", "none", cure)
    high = [name for name, rules in decision.actions.items() if rules.stakes == "high"]
    if high and decision.review is None:
        cure = f"Declare it with {decision.name}.human(deadline=…)."
        raise mistake(where, f"a person for {high[0]!r} (high stakes)", "none", cure)
    if decision.review is not None and not high:
        cure = "Give an action high stakes or remove .human()."
        raise mistake(where, "a reachable person", "no action of high stakes", cure)
    if decision.settle_ms > duration_ms(entity.bounds.grace):
        came = f"settle {decision.settle_ms} ms, grace {duration_ms(entity.bounds.grace)} ms"
        raise mistake(
            where, f"settle= within the grace of {entity.name!r}", came, "Raise grace= or lower settle=."
        )
    if decision.every_ms and any(parameter.kind == "event" for parameter in decision.context.parameters):
        cure = "A periodic decision has no triggering event."
        raise mistake(decision.context.function, "no event parameter", "one, with every=", cure)
    return DecisionPlan(
        rules=DecisionRules(
            name=decision.name,
            entity=entity.name,
            verdict=decision.verdict,
            on=decision.on,
            settle_ms=decision.settle_ms,
            every_ms=decision.every_ms,
            routes=tuple(decision.routes),
            stakes={name: rules.stakes for name, rules in decision.actions.items()},
            review=decision.review,
        ),
        context=decision.context,
        actions=dict(decision.actions),
    )
