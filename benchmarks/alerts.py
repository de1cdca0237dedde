"""The pipeline whose latency is measured: every event is one rule's decision and one low-stakes action."""

from __future__ import annotations

from typing import Literal

from streams import ActionInput, Context, Event, Pipeline, State, Verdict

alerts = Pipeline("bench-alerts", version=1)


class Withdrawn(Event, type="money.withdrawn"):
    """Money was taken from an account. Number and time of sending go all the way to the action."""

    account_id: str
    number: int
    # Of the sender's monotonic clock.
    sent_ns: int
    amount: int


class Account(State):
    """What is known of an account."""

    withdrawals: int = 0
    total: int = 0


account = alerts.entity("account", Account, key="account_id", order="arrival")


@account.on(Withdrawn)
def withdrawn(state: Account, event: Withdrawn) -> Account:
    """One withdrawal more."""
    return state.evolve(withdrawals=state.withdrawals + 1, total=state.total + event.amount)


class Withdrawal(Context):
    """What the rule looks at: the event, and the state that it led to."""

    number: int
    sent_ns: int
    amount: int
    total: int


@account.context
def withdrawal(event: Withdrawn, state: Account) -> Withdrawal:
    """Put both together."""
    return Withdrawal(number=event.number, sent_ns=event.sent_ns, amount=event.amount, total=state.total)


class Alert(Verdict):
    """The one thing to do."""

    action: Literal["tell"]


alert = account.decision("alert", verdict=Alert, context=withdrawal, on=(Withdrawn,))


@alert.rule
def everybody_is_told(ctx: Withdrawal) -> Alert:
    """The benchmark wants an action for every event."""
    return Alert(action="tell", reason=f"{ctx.amount} withdrawn, {ctx.total} in all")


class Tell(ActionInput):
    """By what the action is recognised, and when its event was sent."""

    number: int
    sent_ns: int


@alert.action("tell", stakes="low")
def tell(ctx: Withdrawal, verdict: Alert) -> Tell:
    """Carry the event's number and time of sending."""
    return Tell(number=ctx.number, sent_ns=ctx.sent_ns)
