"""Support tickets: page somebody, chase the ones nobody answers, and make it up to customers who had a bad week.

Small enough to read in one go, and it uses every part of the language: two entities, a link, a window, decisions
that look at once and decisions that wait, and one that a person has to approve.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from streams import (
    ActionInput,
    Context,
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

tickets = Pipeline("tickets", version=1)

# 1. Data: what the support desk tells.


class Opened(Event, type="ticket.opened"):
    ticket_id: str
    customer_id: str
    subject: str
    severity: Literal["low", "normal", "urgent"]


class Answered(Event, type="ticket.answered"):
    ticket_id: str
    agent: str


class Closed(Event, type="ticket.closed"):
    ticket_id: str


class PlanChanged(Event, type="customer.plan_changed"):
    customer_id: str
    plan: Literal["free", "team", "enterprise"]
    renews_at: UtcTime | None


# 2. State: what we know of a ticket and of a customer.


class Ticket(State):
    status: Literal["open", "answered", "closed"] = "open"
    customer_id: str | None = None
    subject: str = ""
    severity: Literal["low", "normal", "urgent"] = "normal"
    agent: str | None = None


# A ticket's first reply is looked at two hours after it was opened: facts may come that late, hence the grace.
ticket = tickets.entity("ticket", Ticket, key="ticket_id", grace=timedelta(hours=2))


@ticket.on(Opened)
def opened(state: Ticket, event: Opened) -> Ticket:
    return state.evolve(customer_id=event.customer_id, subject=event.subject, severity=event.severity)


@ticket.on(Answered)
def answered(state: Ticket, event: Answered) -> Ticket:
    return state.evolve(status="answered", agent=event.agent)


@ticket.on(Closed)
def closed(state: Ticket, event: Closed) -> Ticket:
    return state.evolve(status="closed")


class Customer(State):
    plan: Literal["free", "team", "enterprise"] = "free"
    renews_at: UtcTime | None = None


customer = tickets.entity("customer", Customer, key="customer_id", stale_after=timedelta(days=30))


@customer.on(PlanChanged)
def plan_changed(state: Customer, event: PlanChanged) -> Customer:
    return state.evolve(plan=event.plan, renews_at=event.renews_at)


class Complaint(Item):
    ticket_id: str
    severity: Literal["low", "normal", "urgent"]


@customer.window(within=timedelta(days=7), limit=100)
def complaints(event: Opened) -> Complaint | None:
    """Tickets of the last week that were more than a question."""
    if event.severity == "low":
        return None
    return Complaint(ticket_id=event.ticket_id, severity=event.severity)


class TicketSummary(Summary):
    status: Literal["open", "answered", "closed"]
    severity: Literal["low", "normal", "urgent"]


ticket.link(customer, "their_tickets", on="customer_id", carries=TicketSummary, limit=50)


# 3. An urgent ticket wakes somebody, at once.


class Report(Context):
    ticket_id: str
    subject: str
    severity: Literal["low", "normal", "urgent"]


@ticket.context
def report(event: Opened) -> Report:
    return Report(ticket_id=event.ticket_id, subject=event.subject, severity=event.severity)


class Triage(Verdict):
    action: Literal["page_on_call"]


triage = ticket.decision("triage", verdict=Triage, context=report, on=(Opened,))


@triage.rule
def urgent_wakes_somebody(ctx: Report) -> Triage | None:
    """Urgent means that the customer's own business stands still."""
    if ctx.severity != "urgent":
        return None
    return Triage(action="page_on_call", reason=f"{ctx.ticket_id} is urgent: {ctx.subject}")


class Page(ActionInput):
    ticket_id: str
    subject: str


@triage.action("page_on_call", stakes="low", deadline=timedelta(minutes=15))
def page_on_call(ctx: Report, verdict: Triage) -> Page:
    return Page(ticket_id=ctx.ticket_id, subject=ctx.subject)


# 4. Two hours without an answer: the team lead hears of it.


class Waiting(Context):
    ticket_id: str
    status: Literal["open", "answered", "closed"]
    severity: Literal["low", "normal", "urgent"]


@ticket.context
def waiting(state: Ticket, key: str) -> Waiting:
    return Waiting(ticket_id=key, status=state.status, severity=state.severity)


class FirstReply(Verdict):
    action: Literal["escalate"]


first_reply = ticket.decision(
    "first_reply", verdict=FirstReply, context=waiting, on=(Opened,), settle=timedelta(hours=2)
)


@first_reply.rule
def nobody_has_answered(ctx: Waiting) -> FirstReply | None:
    """The desk promises a first reply within two hours."""
    if ctx.status != "open" or ctx.severity == "low":
        return None
    return FirstReply(action="escalate", reason=f"{ctx.ticket_id}: no reply within two hours")


class Escalation(ActionInput):
    ticket_id: str


@first_reply.action("escalate", stakes="medium", deadline=timedelta(hours=8))
def escalate(ctx: Waiting, verdict: FirstReply) -> Escalation:
    return Escalation(ticket_id=ctx.ticket_id)


# 5. A customer who pays and had a bad week: a credit, if a person agrees.


class BadWeek(Context):
    customer_id: str
    plan: Literal["free", "team", "enterprise"]
    complaints: int
    unanswered: int


@customer.context
def bad_week(
    key: str, state: Customer, complaints: Window[Complaint], their_tickets: Related[TicketSummary]
) -> BadWeek:
    unanswered = sum(1 for other in their_tickets if other.status == "open")
    return BadWeek(customer_id=key, plan=state.plan, complaints=len(complaints), unanswered=unanswered)


class Goodwill(Verdict):
    action: Literal["credit"]


# The link and the window speak of the same instant once everything of that instant has arrived.
goodwill = customer.decision(
    "goodwill", verdict=Goodwill, context=bad_week, on=(Opened,), settle=timedelta(minutes=5)
)


@goodwill.rule
def three_in_a_week(ctx: BadWeek) -> Goodwill | None:
    """Three tickets in a week, with some unanswered, is when paying customers begin to leave."""
    if ctx.plan == "free" or ctx.complaints < 3 or not ctx.unanswered:
        return None
    reason = f"{ctx.complaints} tickets in a week, {ctx.unanswered} unanswered"
    return Goodwill(action="credit", reason=reason, confidence=0.8)


class Credit(ActionInput):
    customer_id: str
    amount_usd: int


@goodwill.action("credit", stakes="high", deadline=timedelta(days=7))
def credit(ctx: BadWeek, verdict: Goodwill) -> Credit:
    return Credit(customer_id=ctx.customer_id, amount_usd=500 if ctx.plan == "enterprise" else 50)


goodwill.human(deadline=timedelta(days=2), on_timeout="reject")
