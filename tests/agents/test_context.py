"""agents/context.py: a row and an instant in; exactly what was known and in sight at that instant out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

from agents.context import ContextRules, Parameter, build, related_as_of, window_as_of
from schemas.context import Context, Related, Summary
from schemas.errors import WrongReturn
from schemas.event import Event
from schemas.row import FieldValue, Row, State, WindowItem
from schemas.units import UtcTime
from schemas.window import Item, Window

NOON = datetime(2013, 2, 8, 12, tzinfo=UTC)


class Airport(State):
    gates: int = 0


class Landed(Event, type="landed"):
    airport: str


class Place(BaseModel):
    """A model inside another one, strict by itself."""

    model_config = ConfigDict(strict=True)

    since: UtcTime


class Delay(Item):
    minutes: int
    place: Place | None = None


class Leg(Summary):
    status: str
    gate: str | None
    place: Place | None = None


class Seen(Context):
    """What a context function was given, in words."""

    given: str


def row(**parts: Any) -> Row[State]:
    return Row[State](state=Airport(gates=3), **parts)


def built(function: Callable[..., Any], *parameters: Parameter, event: Event | None = None) -> Context:
    held = row(
        windows={"delays": [WindowItem(4, "e4", {"minutes": 4}), WindowItem(5, "e5", {"minutes": 5})]},
        related={
            "legs": {"UA1": {"status": [FieldValue(4, "e", "late")], "gate": [FieldValue(4, "e", None)]}}
        },
    )
    return build(ContextRules("seen", Seen, function, parameters), "EWR", held, 5, event)


# Parameters.


def test_a_function_is_given_the_state_the_key_and_the_instant() -> None:
    def seen(state: Airport, key: str, at: datetime) -> Seen:
        return Seen(given=f"{state.gates} {key} {at.isoformat()}")

    parameters = [Parameter("state", "state"), Parameter("key", "key"), Parameter("at", "at")]
    assert built(seen, *parameters) == Seen(given="3 EWR 1970-01-01T00:00:00.005000+00:00")


@pytest.mark.parametrize("event", [None, Landed(airport="EWR")])
def test_a_function_is_given_the_event_or_none(event: Landed | None) -> None:
    def seen(landed: Landed | None) -> Seen:
        return Seen(given=repr(landed))

    assert built(seen, Parameter("landed", "event"), event=event) == Seen(given=repr(event))


def test_a_function_is_given_windows_and_relations_by_their_names() -> None:
    def seen(delays: Window[Delay], legs: Related[Leg]) -> Seen:
        return Seen(given=f"{[delay.minutes for delay in delays]} {list(legs.items())}")

    window = Parameter("delays", "window", item=Delay, within_ms=1)
    relation = Parameter("legs", "related", summary=Leg)
    leg = Leg(status="late", gate=None)
    assert built(seen, window, relation) == Seen(given=f"[5] {[('UA1', leg)]}")


def test_a_function_that_returns_something_else_is_named() -> None:
    def seen(key: str) -> Seen:
        return key  # type: ignore[return-value] # the mistake in question

    with pytest.raises(WrongReturn, match=r"seen must return Seen, got str"):
        built(seen, Parameter("key", "key"))


# Windows as of an instant.


def window(at_ms: int, within_ms: int = 10) -> list[int]:
    held = row(windows={"delays": [WindowItem(n, f"e{n}", {"minutes": n}) for n in (-5, 0, 5, 10)]})
    found = window_as_of(held, "delays", Delay, within_ms, at_ms)
    return [entry.time_ms for entry in found.timed()]


def test_a_window_holds_its_end_and_not_its_beginning() -> None:
    assert window(10) == [5, 10]
    assert window(9) == [0, 5]
    assert window(10, within_ms=11) == [0, 5, 10]


def test_a_window_holds_nothing_that_happened_later() -> None:
    assert window(0) == [-5, 0]
    assert window(-6) == []


def test_a_window_of_which_nothing_was_heard_is_empty() -> None:
    assert list(window_as_of(row(), "delays", Delay, 10, 5)) == []


def test_a_window_tells_when_and_by_which_event() -> None:
    held = row(windows={"delays": [WindowItem(4, "e4", {"minutes": 4})]})
    (entry,) = window_as_of(held, "delays", Delay, 10, 5).timed()
    assert (entry.time_ms, entry.event_id, entry.value) == (4, "e4", Delay(minutes=4))


# Relations as of an instant.


def related(at_ms: int, **fields: list[FieldValue]) -> dict[str, Summary]:
    return dict(related_as_of(row(related={"legs": {"UA1": fields}}), "legs", Leg, at_ms).items())


STATUS = [FieldValue(2, "e1", "late"), FieldValue(5, "e2", "landed")]
GATE = [FieldValue(3, "e3", "B4")]


@pytest.mark.parametrize(("at_ms", "status"), [(3, "late"), (4, "late"), (5, "landed"), (9, "landed")])
def test_a_related_entity_is_as_it_was_last_said_at_or_before_the_instant(at_ms: int, status: str) -> None:
    assert related(at_ms, status=STATUS, gate=GATE) == {"UA1": Leg(status=status, gate="B4")}


def test_an_entity_that_had_not_said_all_that_is_required_was_not_yet_known() -> None:
    assert related(2, status=STATUS, gate=GATE) == {}
    assert related(9, status=STATUS) == {}


def test_null_is_said_and_not_missing() -> None:
    gate = [FieldValue(3, "e3", None)]
    assert related(9, status=STATUS, gate=gate) == {"UA1": Leg(status="landed", gate=None)}


def test_what_is_not_required_may_come_later() -> None:
    place = [FieldValue(9, "e4", {"since": "2013-02-08T12:00:00Z"})]
    landed = Leg(status="landed", gate="B4")
    assert related(8, status=STATUS, gate=GATE, place=place) == {"UA1": landed}
    assert related(9, status=STATUS, gate=GATE, place=place) == {
        "UA1": landed.model_copy(update={"place": Place(since=NOON)})
    }


def test_related_entities_come_in_the_order_of_their_keys() -> None:
    fields = {"status": STATUS, "gate": GATE}
    held = row(related={"legs": dict.fromkeys(["UA2", "UA10", "AA1"], fields)})
    assert [key for key, _ in related_as_of(held, "legs", Leg, 9).items()] == ["AA1", "UA10", "UA2"]


def test_what_rows_hold_as_json_is_read_also_by_strict_models_inside() -> None:
    place = {"since": "2013-02-08T12:00:00Z"}
    held = row(windows={"delays": [WindowItem(4, "e4", {"minutes": 4, "place": place})]})
    assert list(window_as_of(held, "delays", Delay, 10, 5)) == [Delay(minutes=4, place=Place(since=NOON))]
