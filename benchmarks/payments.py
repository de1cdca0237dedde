"""The pipeline that is measured: one entity, one reducer, one output (its change) per event."""

from __future__ import annotations

from typing import Literal

from streams import Event, Pipeline, State, UtcTime

payments = Pipeline("bench-payments", version=1)


class Paid(Event, type="payment.made"):
    """A payment was made from an account."""

    account_id: str
    payment_id: str
    amount: int
    currency: str
    status: Literal["open", "closed", "failed"]
    note: str
    at: UtcTime


class Account(State):
    """What is known of an account."""

    payments: int = 0
    total: int = 0
    last_payment: str = ""
    last_status: str = ""


account = payments.entity("account", Account, key="account_id", order="arrival")


@account.on(Paid)
def paid(state: Account, event: Paid) -> Account:
    """One payment more."""
    return state.evolve(
        payments=state.payments + 1,
        total=state.total + event.amount,
        last_payment=event.payment_id,
        last_status=event.status,
    )
