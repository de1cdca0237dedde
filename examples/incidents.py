"""IT incidents: who waits, which group drowns, which problem is behind many incidents at once.

Events come from `examples/incidents_feed.py`: every update of an incident, with all that is known of it by then. Four
entities: the incident, and the caller, group and problem that it names; these three hold the incidents that are open.

Two decisions, by rule, once a day:

- `overload`: a group has a hundred open incidents or more and got twenty new ones within a day: another shift is
  asked for.
- `common_cause`: five or more open incidents come from one problem: their callers are told of it together.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Literal

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
    UtcTime,
    Verdict,
    Window,
)

Status = Literal[
    "New",
    "Active",
    "Awaiting Evidence",
    "Awaiting Problem",
    "Awaiting User Info",
    "Awaiting Vendor",
    "Resolved",
    "Closed",
]
MANY_OPEN = 100
MANY_NEW = 20
COMMON = 5

incidents = Pipeline("incidents", version=1, earliest=datetime(2000, 1, 1, tzinfo=UTC))

# 1. Data: what the log says.


class IncidentUpdated(Event, type="incident.updated"):
    """An incident was opened or changed; all of it as it stands since."""

    incident: str
    state: Status
    modification: int
    reassignments: int
    reopened: int
    opened_at: UtcTime
    caller: str | None
    group: str | None
    assigned_to: str | None
    problem: str | None
    category: str | None
    symptom: str | None
    impact: str | None
    urgency: str | None
    priority: str | None


# 2. State: what we know of an incident, a caller, a group, a problem.


class Incident(State):
    state: Status = "New"
    modification: int = 0
    reassignments: int = 0
    reopened: int = 0
    opened_at: UtcTime | None = None
    caller: str | None = None
    group: str | None = None
    assigned_to: str | None = None
    problem: str | None = None
    category: str | None = None
    symptom: str | None = None
    impact: str | None = None
    urgency: str | None = None
    priority: str | None = None
    # Who is to hear of it, while it is open.
    waiting_caller: str | None = None
    working_group: str | None = None
    open_problem: str | None = None


incident = incidents.entity(
    "incident",
    Incident,
    key="incident",
    order="latest",
    stale_after=timedelta(days=5),
    # One has 58 updates; several come within a minute.
    dedupe=Dedupe(within=timedelta(days=30), limit=64),
)


@incident.on(IncidentUpdated)
def updated(state: Incident, event: IncidentUpdated) -> Incident:
    is_open = event.state != "Closed"
    return state.evolve(
        **event.model_dump(exclude={"incident"}),
        waiting_caller=event.caller if is_open else None,
        working_group=event.group if is_open else None,
        open_problem=event.problem if is_open else None,
    )


class Open(Summary):
    """An open incident, as others see it."""

    state: Status
    priority: str | None
    opened_at: UtcTime | None
    reassignments: int


class Caller(State):
    """Known by the incidents alone."""


class Group(State):
    """Known by the incidents alone."""


class Problem(State):
    """Known by the incidents alone."""


caller = incidents.entity("caller", Caller, key="caller")
group = incidents.entity("group", Group, key="group")
problem = incidents.entity("problem", Problem, key="problem")

incident.link(caller, "waiting", on="waiting_caller", carries=Open, limit=500)
incident.link(group, "backlog", on="working_group", carries=Open, limit=5000)
incident.link(problem, "symptoms", on="open_problem", carries=Open, limit=100)


class Arrival(Item):
    incident: str


@group.window(within=timedelta(days=1), limit=2000)
def arrivals(event: IncidentUpdated) -> Arrival | None:
    """An incident that was just opened, for this group."""
    return Arrival(incident=event.incident) if event.modification == 0 else None


class Report(Item):
    incident: str


@problem.window(within=timedelta(days=1), limit=2000)
def reports(event: IncidentUpdated) -> Report | None:
    """Whatever happens to an incident of this problem."""
    return Report(incident=event.incident)


# 3. A group that drowns.


class Workload(Context):
    group: str
    open: int
    arrived: int
    reassigned_often: int


@group.context
def workload(key: str, backlog: Related[Open], arrivals: Window[Arrival]) -> Workload:
    """What lies before a group, and what came within a day."""
    often = sum(each.reassignments >= 3 for _, each in backlog.items())
    return Workload(group=key, open=len(backlog), arrived=len(arrivals), reassigned_often=often)


class Overload(Verdict):
    action: Literal["add_shift"]


overload = group.decision("overload", verdict=Overload, context=workload, every=timedelta(days=1))


@overload.rule
def more_comes_than_goes(ctx: Workload) -> Overload | None:
    """A long queue that still grows is not worked off by the people who are there."""
    if ctx.open < MANY_OPEN or ctx.arrived < MANY_NEW:
        return None
    return Overload(action="add_shift", reason=f"{ctx.open} open, {ctx.arrived} new within a day")


class Shift(ActionInput):
    group: str
    open: int
    arrived: int


@overload.action("add_shift", stakes="medium", deadline=timedelta(hours=8))
def add_shift(ctx: Workload, verdict: Overload) -> Shift:
    return Shift(group=ctx.group, open=ctx.open, arrived=ctx.arrived)


# 4. Many incidents, one cause.


class Cause(Context):
    problem: str
    open: int


@problem.context
def cause(key: str, symptoms: Related[Open]) -> Cause:
    """How many open incidents come from the problem."""
    return Cause(problem=key, open=len(symptoms))


class CommonCause(Verdict):
    action: Literal["inform_callers"]


common_cause = problem.decision("common_cause", verdict=CommonCause, context=cause, every=timedelta(days=1))


@common_cause.rule
def many_from_one(ctx: Cause) -> CommonCause | None:
    """Who waits for the same thing should be told the same thing, once."""
    if ctx.open < COMMON:
        return None
    return CommonCause(action="inform_callers", reason=f"{ctx.open} open incidents come from {ctx.problem}")


class Informed(ActionInput):
    problem: str
    open: int


@common_cause.action("inform_callers", stakes="low", deadline=timedelta(hours=8))
def inform_callers(ctx: Cause, verdict: CommonCause) -> Informed:
    return Informed(problem=ctx.problem, open=ctx.open)
