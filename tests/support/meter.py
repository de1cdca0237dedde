"""A pipeline for tests of bad input: numbers, a time and a text in the event, a plain JSON source beside it."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field

from streams import ActionInput, Celsius, Context, Event, Pipeline, State, UtcTime, Verdict


class Measured(Event, type="meter.measured"):
    meter: str
    value: float
    count: int = 1
    at: UtcTime | None = None
    share: Annotated[float, Field(ge=0, le=1)] = 0.0
    outside: Celsius = 0.0
    note: str = ""


class Meter(State):
    readings: int = 0
    value: float = 0.0
    note: str = ""


class Reading(Context):
    meter: str
    value: float


class Alarm(Verdict):
    action: Literal["alarm"]


class Bell(ActionInput):
    meter: str
    value: float


def measured(state: Meter, event: Measured) -> Meter:
    return state.evolve(readings=state.readings + event.count, value=event.value, note=event.note)


def reading(key: str, event: Measured) -> Reading:
    return Reading(meter=key, value=event.value)


def high(ctx: Reading) -> Alarm | None:
    """Above a hundred somebody should know."""
    return Alarm(action="alarm", reason=f"{ctx.value} is high") if ctx.value >= 100 else None


def ring(ctx: Reading, verdict: Alarm) -> Bell:
    return Bell(meter=ctx.meter, value=ctx.value)


def meters(name: str) -> Pipeline:
    """The pipeline under a name of your own."""
    pipeline = Pipeline(name, version=1, earliest=datetime(2020, 1, 1, tzinfo=UTC))
    meter = pipeline.entity("meter", Meter, key="meter", order="arrival")
    meter.on(Measured)(measured)
    meter.context(reading)
    alarm = meter.decision("alarm", verdict=Alarm, context=reading, on=(Measured,))
    alarm.rule(high)
    alarm.action("alarm", stakes="medium")(ring)
    pipeline.bare_json("plain", type="kind", time="when", id="nr", data="body")
    return pipeline
