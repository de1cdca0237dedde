"""streams/pipeline.py: what a declaration is, when nothing is wrong with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from schemas.times import to_ms
from streams import (
    ActionInput,
    Context,
    Dedupe,
    Event,
    Item,
    Pipeline,
    Related,
    State,
    Summary,
    Verdict,
    Window,
)
from streams.pipeline import Entity
from streams.signatures import PipelineError
from tests.support import shop as declared
from tests.support.shop import shop


class Happened(Event, type="thing.happened"):
    thing: str
    other: str | None = None


class Else(Event, type="thing.else"):
    name: str
    other: str


class Thing(State):
    other: str | None = None
    count: int = 0


class Brief(Summary):
    count: int


class Entry(Item):
    name: str


class Seen(Context):
    count: int


class Do(Verdict):
    action: Literal["do", "leave", "none"]


class Input(ActionInput):
    count: int


def both() -> tuple[Pipeline, Entity[Thing]]:
    pipeline = Pipeline("things", version=3)
    return pipeline, pipeline.entity("thing", Thing, key={Happened: "thing", Else: "name"})


def test_a_decorated_function_is_still_the_function() -> None:
    order = shop().entities["order"]
    assert order.reducers["order.placed"] is declared.placed
    assert order.contexts["loss"].function is declared.loss
    assert (
        declared.placed(declared.Order(), declared.Placed(order_id="o", customer_id="c", amount=1)).amount
        == 1
    )


def test_each_declaration_gives_its_function_back() -> None:
    _, thing = both()

    def happened(state: Thing, event: Happened) -> Thing:
        return state

    def window(event: Happened) -> Entry | None:
        return None

    def seen(state: Thing) -> Seen:
        return Seen(count=state.count)

    def rule(ctx: Seen) -> Do:
        """Because."""
        return Do(action="none", reason="x")

    def act(ctx: Seen, verdict: Do) -> Input:
        return Input(count=ctx.count)

    assert thing.on(Happened)(happened) is happened
    assert thing.window(within=timedelta(1))(window) is window
    assert thing.context(seen) is seen
    decision = thing.decision("d", verdict=Do, context=seen, on=(Happened,))
    assert decision.rule(rule) is rule
    assert decision.action("do", stakes="low")(act) is act


def test_a_pipeline_has_bounds_from_the_start() -> None:
    pipeline, thing = both()
    assert (pipeline.name, pipeline.version, pipeline.max_body_bytes) == ("things", 3, 1 << 20)
    assert to_ms(pipeline.earliest) == 0
    assert pipeline.ahead == timedelta(days=1)
    assert (thing.order, thing.bounds.history > 0, thing.bounds.dedupe) == ("latest", True, Dedupe())


@pytest.mark.parametrize(("tail", "limit"), [(16, 16), (100, 16), (0, 16)])
def test_what_is_folded_again_must_be_told_from_what_was_seen(tail: int, limit: int) -> None:
    pipeline = Pipeline("things", version=1)
    with pytest.raises(PipelineError, match=rf"got tail={tail}, dedupe=Dedupe\(limit={limit}\)"):
        pipeline.entity("thing", Thing, key="thing", order="refold", tail=tail, dedupe=Dedupe(limit=limit))


@pytest.mark.parametrize("name", ["flights", "a", "a-1", "x2"])
def test_a_name_can_be_a_topic(name: str) -> None:
    assert Pipeline(name, version=1).name == name


@pytest.mark.parametrize("name", ["", "Flights", "flight.s", "a b", "-", "1_2", "flügel"])
def test_a_name_that_cannot_is_refused(name: str) -> None:
    with pytest.raises(PipelineError, match="a name of lower-case letters"):
        Pipeline(name, version=1)


def test_a_key_may_stand_in_another_field_for_each_event() -> None:
    _, thing = both()
    assert thing.key_field(Happened, "here") == "thing"
    assert thing.key_field(Else, "here") == "name"


def test_a_key_field_may_be_empty_in_some_events() -> None:
    pipeline = Pipeline("things", version=1)
    other = pipeline.entity("other", Thing, key="other")
    assert other.key_field(Happened, "here") == "other"


def test_a_window_takes_every_event_of_its_annotation() -> None:
    _, thing = both()

    @thing.window(within=timedelta(hours=2), limit=7)
    def lately(event: Happened | Else) -> Entry | None:
        return None

    rules = thing.windows["lately"]
    assert (rules.item, rules.within_ms, rules.limit) == (Entry, 7_200_000, 7)
    assert set(rules.take) == set(thing.events) == {"thing.happened", "thing.else"}


def test_a_link_stands_on_both_sides() -> None:
    pipeline, thing = both()
    other = pipeline.entity("other", Thing, key="other")
    thing.link(other, "things", on="other", carries=Brief, limit=4)
    assert thing.links_out["things"] is other.links_in["things"]
    rules = thing.links_out["things"]
    assert (rules.target, rules.on, rules.carries, rules.limit) == ("other", "other", Brief, 4)


def test_a_context_is_wired_by_type() -> None:
    pipeline, thing = both()
    other = pipeline.entity("other", Thing, key="other")
    thing.link(other, "things", on="other", carries=Brief)

    @other.window(within=timedelta(hours=1))
    def lately(event: Happened) -> Entry | None:
        return None

    @other.context
    def seen(
        at: datetime,
        key: str,
        state: Thing,
        event: Happened | Else,
        things: Related[Brief],
        lately: Window[Entry],
    ) -> Seen:
        return Seen(count=0)

    parameters = other.contexts["seen"].parameters
    assert [(parameter.name, parameter.kind) for parameter in parameters] == [
        ("at", "at"),
        ("key", "key"),
        ("state", "state"),
        ("event", "event"),
        ("things", "related"),
        ("lately", "window"),
    ]
    assert (parameters[4].summary, parameters[5].item, parameters[5].within_ms) == (Brief, Entry, 3_600_000)


def test_bare_json_is_declared_per_source() -> None:
    pipeline, _ = both()
    pipeline.bare_json("till", type="meta.type", time="meta.at", id="meta.id", data="body")
    bare = pipeline.bare["till"]
    assert (bare.source, bare.type, bare.time, bare.id, bare.data) == (
        "till",
        "meta.type",
        "meta.at",
        "meta.id",
        "body",
    )


def returns_nothing(ctx: Any) -> None:
    """Not a rule."""


@pytest.mark.parametrize(
    "wrong",
    [
        lambda p, e: e.on(Happened)(returns_nothing),
        lambda p, e: e.window(within=timedelta(1))(returns_nothing),
        lambda p, e: e.context(returns_nothing),
        lambda p, e: p.entity("thing", Thing, key="thing"),
        lambda p, e: p.entity("lane", Thing, key="thing"),
    ],
)
def test_a_mistake_is_a_pipeline_error(wrong: Callable[[Pipeline, Entity[Thing]], object]) -> None:
    with pytest.raises(PipelineError, match=r"expected .*, got "):
        wrong(*both())


def test_earliest_needs_a_zone() -> None:
    assert (
        to_ms(Pipeline("x", version=1, earliest=datetime(2000, 1, 1, tzinfo=UTC)).earliest) == 946_684_800_000
    )
