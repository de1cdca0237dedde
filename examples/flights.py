"""Flights from New York: rebook the cancelled, protect the next leg, hold traffic when the weather is bad.

Events come from `examples/flights_feed.py`. Three decisions, all by rule:

- `rebook`: a flight is cancelled; its passengers are rebooked.
- `knock_on`: an aircraft arrives late. It has to turn around, fly back and turn around again; when that leaves
  less than a turnaround before its next leg from New York, the ground crew is told to hurry; when it cannot
  make it at all, a swap of aircraft is proposed. A swap is expensive: a person decides.
- `ground_delay`: at every full hour, an airport with many long delays or cancellations in bad weather asks for
  fewer arrivals.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import Field

from streams import (
    ActionInput,
    Celsius,
    Context,
    Event,
    Hectopascals,
    Item,
    Kilometres,
    MetresPerSecond,
    Millimetres,
    Pipeline,
    Related,
    State,
    Summary,
    UtcTime,
    Verdict,
    Window,
)

TURNAROUND_MIN = 45
LATE_MIN = 15
LONG_DELAY_MIN = 60
DISRUPTIONS = 10

flights = Pipeline("flights", version=1, earliest=datetime(2000, 1, 1, tzinfo=UTC))

# 1. Data: what the world says.


class Scheduled(Event, type="flight.scheduled"):
    flight_id: str
    carrier: str
    flight_number: int
    tail: str | None
    origin: str
    destination: str
    scheduled_departure: UtcTime
    scheduled_arrival: UtcTime
    distance: Kilometres


class Departed(Event, type="flight.departed"):
    flight_id: str
    tail: str | None
    origin: str
    destination: str
    departed_at: UtcTime
    delay_min: int


class Arrived(Event, type="flight.arrived"):
    flight_id: str
    tail: str | None
    origin: str
    destination: str
    arrived_at: UtcTime
    delay_min: int
    air_time_min: int | None


class Cancelled(Event, type="flight.cancelled"):
    flight_id: str
    tail: str | None
    origin: str
    destination: str
    scheduled_departure: UtcTime


class WeatherObserved(Event, type="weather.observed"):
    airport: str
    observed_at: UtcTime
    temperature: Celsius | None
    # 113 m/s is the strongest gust ever measured on the ground (WMO, Barrow Island 1996).
    wind_speed: Annotated[MetresPerSecond, Field(ge=0, le=115)] | None
    wind_gust: Annotated[MetresPerSecond, Field(ge=0, le=115)] | None
    precipitation: Annotated[Millimetres, Field(ge=0)] | None
    visibility: Annotated[Kilometres, Field(ge=0)] | None
    pressure: Hectopascals | None


# 2. State: what we know of a flight, an aircraft, an airport.


class Flight(State):
    status: Literal["scheduled", "departed", "arrived", "cancelled"] = "scheduled"
    carrier: str | None = None
    tail: str | None = None
    origin: str | None = None
    destination: str | None = None
    scheduled_departure: UtcTime | None = None
    scheduled_arrival: UtcTime | None = None
    departed_at: UtcTime | None = None
    arrived_at: UtcTime | None = None
    departure_delay_min: int | None = None
    arrival_delay_min: int | None = None


flight = flights.entity("flight", Flight, key="flight_id", order="latest", stale_after=timedelta(hours=6))


@flight.on(Scheduled)
def scheduled(state: Flight, event: Scheduled) -> Flight:
    return state.evolve(
        status="scheduled",
        carrier=event.carrier,
        tail=event.tail,
        origin=event.origin,
        destination=event.destination,
        scheduled_departure=event.scheduled_departure,
        scheduled_arrival=event.scheduled_arrival,
    )


@flight.on(Departed)
def departed(state: Flight, event: Departed) -> Flight:
    return state.evolve(status="departed", departed_at=event.departed_at, departure_delay_min=event.delay_min)


@flight.on(Arrived)
def arrived(state: Flight, event: Arrived) -> Flight:
    return state.evolve(status="arrived", arrived_at=event.arrived_at, arrival_delay_min=event.delay_min)


@flight.on(Cancelled)
def cancelled(state: Flight, event: Cancelled) -> Flight:
    return state.evolve(status="cancelled")


class Aircraft(State):
    airport: str | None = None
    airborne: bool = False


aircraft = flights.entity("aircraft", Aircraft, key="tail", stale_after=timedelta(days=2))


@aircraft.on(Departed)
def took_off(state: Aircraft, event: Departed) -> Aircraft:
    return state.evolve(airport=event.origin, airborne=True)


@aircraft.on(Arrived)
def landed(state: Aircraft, event: Arrived) -> Aircraft:
    return state.evolve(airport=event.destination, airborne=False)


class Leg(Summary):
    status: Literal["scheduled", "departed", "arrived", "cancelled"]
    origin: str | None
    scheduled_departure: UtcTime | None
    scheduled_arrival: UtcTime | None


flight.link(aircraft, "legs", on="tail", carries=Leg, limit=40)


class Airport(State):
    observed_at: UtcTime | None = None
    temperature_c: float | None = None
    wind_speed_m_s: float | None = None
    visibility_km: float | None = None
    precipitation_mm: float | None = None


airport = flights.entity(
    "airport",
    Airport,
    key={Departed: "origin", Cancelled: "origin", WeatherObserved: "airport"},
    stale_after=timedelta(hours=3),
)


@airport.on(WeatherObserved)
def observed(state: Airport, event: WeatherObserved) -> Airport:
    return state.evolve(
        observed_at=event.observed_at,
        temperature_c=event.temperature,
        wind_speed_m_s=event.wind_speed,
        visibility_km=event.visibility,
        precipitation_mm=event.precipitation,
    )


class Disruption(Item):
    flight_id: str
    delay_min: int | None


@airport.window(within=timedelta(hours=2))
def disruptions(event: Departed | Cancelled) -> Disruption | None:
    """A cancellation, or a departure an hour late or more."""
    if isinstance(event, Cancelled):
        return Disruption(flight_id=event.flight_id, delay_min=None)
    if event.delay_min >= LONG_DELAY_MIN:
        return Disruption(flight_id=event.flight_id, delay_min=event.delay_min)
    return None


class Observation(Item):
    wind_speed_m_s: float | None
    visibility_km: float | None
    precipitation_mm: float | None

    @property
    def bad(self) -> bool:
        """Strong wind, poor sight or steady rain; what was not measured is not bad."""
        return (
            (self.wind_speed_m_s is not None and self.wind_speed_m_s >= 10)
            or (self.visibility_km is not None and self.visibility_km < 5)
            or (self.precipitation_mm is not None and self.precipitation_mm >= 1)
        )


@airport.window(within=timedelta(hours=3))
def weather(event: WeatherObserved) -> Observation | None:
    """The observations of the last hours: an older one says nothing about now."""
    return Observation(
        wind_speed_m_s=event.wind_speed,
        visibility_km=event.visibility,
        precipitation_mm=event.precipitation,
    )


# 3. A cancelled flight.


class Loss(Context):
    flight_id: str
    origin: str
    destination: str
    scheduled_departure: UtcTime


@flight.context
def loss(event: Cancelled) -> Loss:
    return Loss(
        flight_id=event.flight_id,
        origin=event.origin,
        destination=event.destination,
        scheduled_departure=event.scheduled_departure,
    )


class Rebook(Verdict):
    action: Literal["rebook"]


rebook = flight.decision("rebook", verdict=Rebook, context=loss, on=(Cancelled,))


@rebook.rule
def every_cancellation(ctx: Loss) -> Rebook:
    """A cancelled flight leaves its passengers behind: there is nothing to weigh."""
    return Rebook(action="rebook", reason=f"{ctx.flight_id} to {ctx.destination} is cancelled")


class RebookPassengers(ActionInput):
    flight_id: str
    origin: str
    destination: str
    scheduled_departure: UtcTime


@rebook.action("rebook", stakes="low", deadline=timedelta(hours=6))
def rebook_passengers(ctx: Loss, verdict: Rebook) -> RebookPassengers:
    return RebookPassengers(**dict(ctx))


# 4. A late aircraft.


class Turnaround(Context):
    tail: str
    flight_id: str
    delay_min: int
    # The next leg from New York, and the minutes at the gate before it if the aircraft turns around at once.
    next_flight_id: str | None = None
    next_origin: str | None = None
    gate_min: int | None = None


@aircraft.context
def turnaround(event: Arrived, legs: Related[Leg], key: str, at: datetime) -> Turnaround:
    this = legs.get(event.flight_id)
    nothing = Turnaround(tail=key, flight_id=event.flight_id, delay_min=event.delay_min)
    if this is None or this.scheduled_departure is None or this.scheduled_arrival is None:
        return nothing
    ahead = [
        (leg.scheduled_departure, flight_id, leg)
        for flight_id, leg in legs.items()
        if leg.status == "scheduled"
        and leg.scheduled_departure is not None
        and leg.scheduled_departure > this.scheduled_departure
    ]
    if not ahead:
        return nothing
    departure, flight_id, leg = min(ahead, key=lambda entry: entry[:2])
    back = at + timedelta(minutes=TURNAROUND_MIN) + (this.scheduled_arrival - this.scheduled_departure)
    return Turnaround(
        tail=key,
        flight_id=event.flight_id,
        delay_min=event.delay_min,
        next_flight_id=flight_id,
        next_origin=leg.origin,
        gate_min=(departure - back) // timedelta(minutes=1),
    )


class KnockOn(Verdict):
    action: Literal["expedite_turnaround", "swap_aircraft"]


knock_on = aircraft.decision(
    "knock_on", verdict=KnockOn, context=turnaround, on=(Arrived,), settle=timedelta(minutes=30)
)


@knock_on.rule
def too_little_time(ctx: Turnaround) -> KnockOn | None:
    """A late aircraft with less than a turnaround before its next leg delays that leg, too."""
    if ctx.delay_min < LATE_MIN or ctx.gate_min is None or ctx.gate_min >= TURNAROUND_MIN:
        return None
    if ctx.gate_min >= 0:
        reason = f"{ctx.gate_min} min at the gate before {ctx.next_flight_id}, {TURNAROUND_MIN} are usual"
        return KnockOn(action="expedite_turnaround", reason=reason)
    reason = f"{ctx.tail} is back {-ctx.gate_min} min after {ctx.next_flight_id} should leave"
    return KnockOn(action="swap_aircraft", reason=reason)


class NextLeg(ActionInput):
    tail: str
    flight_id: str
    airport: str | None


@knock_on.action("expedite_turnaround", stakes="medium", deadline=timedelta(hours=2))
def expedite_turnaround(ctx: Turnaround, verdict: KnockOn) -> NextLeg:
    return NextLeg(tail=ctx.tail, flight_id=ctx.next_flight_id or "", airport=ctx.next_origin)


@knock_on.action("swap_aircraft", stakes="high", deadline=timedelta(hours=12))
def swap_aircraft(ctx: Turnaround, verdict: KnockOn) -> NextLeg:
    return NextLeg(tail=ctx.tail, flight_id=ctx.next_flight_id or "", airport=ctx.next_origin)


knock_on.human(deadline=timedelta(hours=24), on_timeout="reject")


# 5. An airport in trouble.


class Conditions(Context):
    airport: str
    disrupted: int
    bad_weather: bool


@airport.context
def conditions(key: str, disruptions: Window[Disruption], weather: Window[Observation]) -> Conditions:
    last = weather.last()
    return Conditions(airport=key, disrupted=len(disruptions), bad_weather=last is not None and last.bad)


class GroundDelay(Verdict):
    action: Literal["ground_delay"]


ground_delay = airport.decision(
    "ground_delay",
    verdict=GroundDelay,
    context=conditions,
    every=timedelta(hours=1),
    settle=timedelta(minutes=30),
)


@ground_delay.rule
def many_disruptions_in_bad_weather(ctx: Conditions) -> GroundDelay | None:
    """Many long delays alone are a busy evening; in bad weather they will grow unless traffic is held."""
    if ctx.disrupted < DISRUPTIONS or not ctx.bad_weather:
        return None
    return GroundDelay(action="ground_delay", reason=f"{ctx.disrupted} disruptions in two hours, bad weather")


class HoldTraffic(ActionInput):
    airport: str
    disrupted: int


@ground_delay.action("ground_delay", stakes="medium", deadline=timedelta(hours=1))
def hold_traffic(ctx: Conditions, verdict: GroundDelay) -> HoldTraffic:
    return HoldTraffic(airport=ctx.airport, disrupted=ctx.disrupted)
