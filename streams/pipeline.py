"""The pipeline language: a typed Python file with plain functions in, declarations out.

    flights = Pipeline("flights", version=1)
    flight = flights.entity("flight", Flight, key="flight_id")

    @flight.on(Departed)
    def departed(state: Flight, event: Departed) -> Flight:
        return state.evolve(status="departed", delay_min=event.delay_min)

Decorators return the function unchanged, so it can be called and tested as it is. `streams.plan.compile_plan`
turns the declarations into the rules that the lanes run, and finds what no single declaration can show.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from agents.context import ContextRules, Parameter
from agents.data import Bare
from agents.state import LinkRules, WindowRules
from agents.workflow import WorkflowRules
from schemas.action import ActionInput
from schemas.context import Context, Related, Summary
from schemas.decision import Verdict
from schemas.event import Event
from schemas.row import FoldOrder, State
from schemas.times import duration_ms
from schemas.window import Item, Window
from streams.decisions import Decision
from streams.signatures import alternatives, mistake, one_of, subclass, wired
from streams.workflows import Transition, checked_workflow

StateT = TypeVar("StateT", bound=State)
EventT = TypeVar("EventT", bound=Event)
ItemT = TypeVar("ItemT", bound=Item)
ContextT = TypeVar("ContextT", bound=Context)
VerdictT = TypeVar("VerdictT", bound=Verdict)
InputT = TypeVar("InputT", bound=ActionInput)

KeyField = str | Mapping[type[Event], str]


@dataclass(frozen=True)
class Dedupe:
    """How long, and how many, event ids a row remembers. What it has forgotten it refuses."""

    within: timedelta = timedelta(days=7)
    limit: int = 16


class Bounds(NamedTuple):
    """How much a row keeps."""

    dedupe: Dedupe
    history: int
    grace: timedelta
    tail: int


class Pipeline:
    """Everything one pipeline declares. `name` and `version` are part of every derived key."""

    def __init__(
        self,
        name: str,
        *,
        version: int,
        earliest: datetime = datetime(1970, 1, 1, tzinfo=UTC),
        ahead: timedelta = timedelta(days=1),
        max_body_bytes: int = 1 << 20,
    ) -> None:
        """Open a pipeline.

        Args:
            name: lower-case letters, digits and dashes; it prefixes the topics.
            version: a whole number; a new version decides anew, under new keys.
            earliest: an event older than this is quarantined.
            ahead: an event this much later than its arrival in Kafka is quarantined.
            max_body_bytes: a larger body is quarantined.
        """
        if not (name.isascii() and name.replace("-", "").isalnum() and name.islower()):
            raise mistake(
                "Pipeline", "a name of lower-case letters, digits and '-'", repr(name), "Rename it."
            )
        self.name = name
        self.version = version
        self.earliest = earliest
        self.ahead = ahead
        self.max_body_bytes = max_body_bytes
        self.entities: dict[str, Entity[Any]] = {}
        self.bare: dict[str, Bare] = {}

    def entity(
        self,
        name: str,
        state: type[StateT],
        *,
        key: KeyField,
        order: FoldOrder = "latest",
        stale_after: timedelta | None = None,
        dedupe: Dedupe = Dedupe(),
        history: int = 5,
        grace: timedelta = timedelta(hours=1),
        tail: int = 100,
    ) -> Entity[StateT]:
        """Declare a kind of entity. The first one declared that hears an event type owns those events.

        Args:
            name: the entity's name in keys and topics.
            state: its state; every field needs a default.
            key: the event field that holds the entity's key, or one field per event type.
            order: `latest` (per field, the newest event that set it), `arrival`, or `refold`: late events are
                sorted in and what came after them is folded again, so the row is that of the order of time.
            stale_after: how long the state counts as current after its newest event.
            dedupe: how many event ids a row remembers, and how long.
            history: of how many events a row keeps the changes (all go to the `changes` topic).
            grace: how late an event may come and still be right in windows and relations, and, with `refold`, in
                the state; what comes later is then quarantined.
            tail: with `refold`, how many events inside the grace are kept to be folded again.
        """
        if name in self.entities or name == "lane" or not name.isidentifier():
            raise mistake(
                "Pipeline.entity", "a new identifier that is not 'lane'", repr(name), "Rename the entity."
            )
        one_of(f"entity {name!r}", "order", order, "arrival", "latest", "refold")
        bounds = Bounds(dedupe, history, grace, tail)
        declared: Entity[StateT] = Entity(self, name, state, key, order, stale_after, bounds)
        self.entities[name] = declared
        return declared

    def bare_json(
        self, source: str, *, type: str, time: str, id: str | None = None, data: str | None = None
    ) -> None:
        """Declare how plain JSON of `source` (its `source` header) is read: dotted paths of its attributes.

        Without `id` the event id is a hash of source and body; without `data` the whole object is the body.
        """
        self.bare[source] = Bare(source=source, type=type, time=time, id=id, data=data)


class Entity(Generic[StateT]):
    """One kind of entity: reducers, windows, links, contexts and decisions hang on it."""

    def __init__(
        self,
        pipeline: Pipeline,
        name: str,
        state: type[StateT],
        key: KeyField,
        order: FoldOrder,
        stale_after: timedelta | None,
        bounds: Bounds,
    ) -> None:
        """Made by `Pipeline.entity`."""
        if not subclass(state, State):
            raise mistake(
                f"entity {name!r}", "a State subclass", repr(state), "Derive it from streams.State."
            )
        for field_name, info in state.model_fields.items():
            if info.is_required():
                came = f"{state.__name__}.{field_name} without one"
                raise mistake(
                    f"entity {name!r}", "a default on every field", came, "A state exists before its events."
                )
        self.pipeline, self.name, self.state, self.key, self.order = pipeline, name, state, key, order
        self.stale_after, self.bounds = stale_after, bounds
        if order == "refold" and not 0 < bounds.tail < bounds.dedupe.limit:
            expected = "more ids remembered than events kept, and at least one of these"
            came = f"tail={bounds.tail}, dedupe=Dedupe(limit={bounds.dedupe.limit})"
            cure = "Else a late event could not be told from one that was seen: raise the limit."
            raise mistake(f"entity {name!r}", expected, came, cure)
        self.events: dict[str, type[Event]] = {}
        self.reducers: dict[str, Callable[[Any, Any], State]] = {}
        self.windows: dict[str, WindowRules] = {}
        self.steps: WorkflowRules | None = None
        self.links_out: dict[str, LinkRules] = {}
        self.links_in: dict[str, LinkRules] = {}
        self.contexts: dict[str, ContextRules] = {}
        self.decisions: dict[str, Decision[Any, Any]] = {}

    def key_field(self, event: type[Event], where: Callable[..., Any] | str) -> str:
        """The field of `event` that holds this entity's key, checked."""
        name = self.key if isinstance(self.key, str) else self.key.get(event, "")
        if name not in event.model_fields:
            came = f"{event.__name__} without field {name!r}" if name else f"no key for {event.__name__}"
            raise mistake(
                where, f"an event that names its {self.name}", came, f"See key= of entity {self.name!r}."
            )
        if str not in alternatives(event.model_fields[name].annotation):
            raise mistake(where, f"a str in {event.__name__}.{name}", "another type", "Keys are strings.")
        return name

    def hear(self, event: Any, where: Callable[..., Any] | str) -> str:
        """Note that this entity needs `event`; returns its CloudEvents type."""
        if not subclass(event, Event) or not event.event_type:
            cure = "Declare it as class X(Event, type='…')."
            raise mistake(where, "an Event subclass with a type", repr(event), cure)
        for name, info in event.model_fields.items():
            if info.annotation is datetime and not info.metadata:
                came = f"{event.__name__}.{name}: datetime"
                raise mistake(where, "times with a zone", came, "Use streams.UtcTime.")
        self.key_field(event, where)
        if (known := self.events.setdefault(event.event_type, event)) is not event:
            came = f"{known.__name__} and {event.__name__}"
            raise mistake(where, f"one model for type {event.event_type!r}", came, "Share the class.")
        return str(event.event_type)

    def on(
        self, event: type[EventT]
    ) -> Callable[[Callable[[StateT, EventT], StateT]], Callable[[StateT, EventT], StateT]]:
        """Declare the reducer for `event`: `(state, event) -> state`, pure."""

        def declare(function: Callable[[StateT, EventT], StateT]) -> Callable[[StateT, EventT], StateT]:
            given, returned = wired(function)
            expected = (
                f"({self.state.__name__}, {getattr(event, '__name__', event)}) -> {self.state.__name__}"
            )
            if [*given.values(), returned] != [self.state, event, self.state]:
                came = f"({', '.join(str(getattr(t, '__name__', t)) for t in given.values())}) -> {returned}"
                raise mistake(function, expected, came, "Mend the annotations.")
            name = self.hear(event, function)
            if name in self.reducers:
                raise mistake(function, f"one reducer for {name}", "a second one", "Join them.")
            self.reducers[name] = function
            return function

        return declare

    def window(
        self, *, within: timedelta, limit: int = 1000
    ) -> Callable[[Callable[[Any], ItemT | None]], Callable[[Any], ItemT | None]]:
        """Declare an event-time window named like the function: `(event) -> item or None`.

        Args:
            within: how far back the window looks from the instant of a context.
            limit: the most entries it holds; the oldest leave first and are counted.
        """

        def declare(function: Callable[[Any], ItemT | None]) -> Callable[[Any], ItemT | None]:
            given, returned = wired(function)
            items = alternatives(returned)
            if len(given) != 1 or len(items) != 1 or not subclass(items[0], Item):
                raise mistake(
                    function, "(event) -> Item or None", str(returned), "Return a streams.Item subclass."
                )
            events = alternatives(next(iter(given.values())))
            take = {self.hear(event, function): function for event in events}
            name = function.__name__
            self.windows[name] = WindowRules(name, items[0], duration_ms(within), limit, take)
            return function

        return declare

    def workflow(self, field: str, transitions: Sequence[Transition]) -> None:
        """Declare the steps that the state's `field` may take; an event that takes another one is quarantined.

        Args:
            field: a field of the state whose type is a Literal; it begins with its default.
            transitions: every step that may be taken.
        """
        if self.steps is not None:
            where = f"workflow of {self.name!r}"
            raise mistake(where, "one workflow", f"a second one, of {field!r}", "Put all its steps into one.")
        self.steps = checked_workflow(self.name, self.state, field, transitions, self.hear)

    def link(
        self, target: Entity[Any], name: str, *, on: str, carries: type[Summary], limit: int = 100
    ) -> None:
        """Tell `target` about this entity: the one whose key stands in state field `on` holds it as `name`.

        Args:
            target: the other kind of entity.
            name: what the other side calls this relation (a parameter name in its contexts).
            on: the state field that holds the other's key; None while there is none.
            carries: what is carried; its fields are fields of this state, with the same types.
            limit: how many related entities the other side holds.
        """
        where = f"link {name!r} of {self.name!r}"
        if on not in self.state.model_fields:
            raise mistake(where, f"on= a field of {self.state.__name__}", repr(on), "See its fields.")
        for field_name, info in carries.model_fields.items():
            own = self.state.model_fields.get(field_name)
            if own is None or own.annotation != info.annotation:
                came = "no such field" if own is None else f"{own.annotation} there, {info.annotation} here"
                expected = f"{carries.__name__}.{field_name} to be a field of {self.state.__name__}"
                raise mistake(where, expected, came, "Carry fields under their own names and types.")
        if name in target.links_in:
            raise mistake(where, f"one relation {name!r} on {target.name!r}", "a second one", "Rename it.")
        rules = LinkRules(name, target.name, on, carries, limit)
        self.links_out[name] = rules
        target.links_in[name] = rules

    def context(self, function: Callable[..., ContextT]) -> Callable[..., ContextT]:
        """Declare how a context is built. Parameters are given by type: the state, the triggering event,
        `Related[X]` and `Window[X]` by their names, `at: datetime` the instant, `key: str`.
        """
        given, returned = wired(function)
        if not subclass(returned, Context):
            raise mistake(
                function, "a Context subclass as result", str(returned), "Derive it from streams.Context."
            )
        parameters = tuple(self._parameter(function, name, annotation) for name, annotation in given.items())
        rules = ContextRules(function.__name__, returned, function, parameters)
        self.contexts[function.__name__] = rules
        return function

    def _parameter(self, function: Callable[..., Any], name: str, annotation: Any) -> Parameter:
        if annotation is self.state:
            return Parameter(name, "state")
        if annotation is datetime and name == "at":
            return Parameter(name, "at")
        if annotation is str and name == "key":
            return Parameter(name, "key")
        origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
        window = self.windows.get(name)
        if origin is Window and window is not None and arguments == (window.item,):
            return Parameter(name, "window", item=window.item, within_ms=window.within_ms)
        link = self.links_in.get(name)
        if origin is Related and link is not None and arguments == (link.carries,):
            return Parameter(name, "related", summary=link.carries)
        if all(subclass(member, Event) for member in alternatives(annotation)):
            return Parameter(name, "event")
        known = [f"{n}: Window[{w.item.__name__}]" for n, w in self.windows.items()]
        known += [f"{n}: Related[{rel.carries.__name__}]" for n, rel in self.links_in.items()]
        choice = ", ".join([self.state.__name__, "an Event", *known, "at: datetime", "key: str"])
        raise mistake(
            function, f"parameter {name!r} to be one of {choice}", str(annotation), "Declare it before."
        )

    def decision(
        self,
        name: str,
        *,
        verdict: type[VerdictT],
        context: Callable[..., ContextT],
        on: Sequence[type[Event]] = (),
        every: timedelta | None = None,
        settle: timedelta = timedelta(0),
    ) -> Decision[ContextT, VerdictT]:
        """Declare a decision about this entity.

        Args:
            name: part of its keys; unique in the pipeline.
            verdict: the answer; `action` is a Literal with every action it may name, and perhaps "none".
            context: a function declared with `@entity.context`.
            on: the events that make it look.
            every: or: look at every full period of event time while a window of the entity holds anything.
            settle: wait until the clock has passed the instant by this much, so that late facts are in.
        """
        where = f"decision {name!r}"
        if any(name in entity.decisions for entity in self.pipeline.entities.values()):
            raise mistake(where, "a new name", "one in use", "Rename it: names are part of the keys.")
        built = self.contexts.get(context.__name__)
        if built is None or built.function is not context:
            raise mistake(
                where, f"a context of {self.name!r}", context.__name__, f"Use @{self.name}.context."
            )
        if bool(on) == (every is not None):
            raise mistake(where, "either on= or every=", "both or neither", "Say when it looks.")
        heard = frozenset(self.hear(event, where) for event in on)
        declared: Decision[ContextT, VerdictT] = Decision(
            name, verdict, built, heard, duration_ms(settle), 0 if every is None else duration_ms(every)
        )
        self.decisions[name] = declared
        return declared
