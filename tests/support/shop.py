"""A pipeline for tests that has one of everything: `shop(name)` declares it; `fault` in an event makes a function fail.

order.placed, order.paid, order.cancelled → order ──link──► customer ◄──copy── order.paid
order: `refund` at once. customer: `watch` ten minutes after a payment, `report` every hour.
"""

from datetime import datetime, timedelta
from typing import Any, Literal

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

REVIEW_DEADLINE = timedelta(hours=1)
DEDUPE = Dedupe()


def trip(fault: str, where: str) -> None:
    """Fail when the event asks for it."""
    if fault == where:
        raise RuntimeError(f"tripped in {where}")


class Placed(Event, type="order.placed"):
    order_id: str
    customer_id: str | None
    amount: int
    fault: str = ""


class Paid(Event, type="order.paid"):
    order_id: str
    customer_id: str
    amount: int
    fault: str = ""


class Cancelled(Event, type="order.cancelled"):
    order_id: str
    fault: str = ""


class Order(State):
    status: Literal["placed", "paid", "cancelled"] = "placed"
    customer_id: str | None = None
    amount: int = 0


class Customer(State):
    spent: int = 0


class OrderSummary(Summary):
    status: Literal["placed", "paid", "cancelled"]
    amount: int


class Payment(Item):
    amount: int
    fault: str


def placed(state: Order, event: Placed) -> Order:
    trip(event.fault, "reducer")
    return state.evolve(status="placed", customer_id=event.customer_id, amount=event.amount)


def paid(state: Order, event: Paid) -> Order:
    trip(event.fault, "reducer")
    if event.fault == "wrong state":
        return "not an order"  # type: ignore[return-value] # the point
    return state.evolve(status="paid", customer_id=event.customer_id)


def cancelled(state: Order, event: Cancelled) -> Order:
    return state.evolve(status="cancelled")


def spent(state: Customer, event: Paid) -> Customer:
    return state.evolve(spent=state.spent + event.amount)


def payments(event: Paid) -> Payment | None:
    trip(event.fault, "window")
    return Payment(amount=event.amount, fault=event.fault) if event.amount else None


class Loss(Context):
    order_id: str
    amount: int
    fault: str


def loss(state: Order, event: Cancelled, key: str) -> Loss:
    trip(event.fault, "context")
    return Loss(order_id=key, amount=state.amount, fault=event.fault)


class Refund(Verdict):
    action: Literal["refund", "none"]


def money_back(ctx: Loss) -> Refund:
    """Who cancels gets the money back; there is nothing to weigh."""
    trip(ctx.fault, "rule")
    if ctx.fault == "wrong verdict":
        return "refund"  # type: ignore[return-value] # the point
    if not ctx.amount:
        return Refund(action="none", reason="nothing was paid")
    return Refund(action="refund", reason=f"{ctx.amount} for {ctx.order_id}")


class Money(ActionInput):
    order_id: str
    amount: int


def refund_money(ctx: Loss, verdict: Refund) -> Money:
    trip(ctx.fault, "action")
    return Money(order_id=ctx.order_id, amount=ctx.amount)


class Standing(Context):
    customer_id: str
    spent: int
    orders: dict[str, str]
    recent: int
    fault: str
    at: UtcTime


def standing(
    state: Customer,
    event: Paid,
    orders: Related[OrderSummary],
    payments: Window[Payment],
    at: datetime,
    key: str,
) -> Standing:
    trip(event.fault, "settled context")
    return Standing(
        customer_id=key,
        spent=state.spent,
        orders={order_id: f"{order.status} {order.amount}" for order_id, order in orders.items()},
        recent=sum(payment.amount for payment in payments),
        fault=event.fault,
        at=at,
    )


class Watch(Verdict):
    action: Literal["block", "praise", "none"]


def too_much(ctx: Standing) -> Watch | None:
    """A thousand within the hour is unusual: somebody should look."""
    trip(ctx.fault, "settled rule")
    return Watch(action="block", reason=f"{ctx.recent} in an hour") if ctx.recent >= 1000 else None


def good_customer(ctx: Standing) -> Watch | None:
    """Two hundred in all deserve a word."""
    return Watch(action="praise", reason=f"{ctx.spent} in all", confidence=0.9) if ctx.spent >= 200 else None


class About(ActionInput):
    customer_id: str


def block(ctx: Standing, verdict: Watch) -> About:
    trip(ctx.fault, "approved action")
    return About(customer_id=ctx.customer_id)


def praise(ctx: Standing, verdict: Watch) -> About:
    return About(customer_id=ctx.customer_id)


class Hour(Context):
    customer_id: str
    payments: int
    fault: str


def hour(key: str, payments: Window[Payment]) -> Hour:
    return Hour(
        customer_id=key, payments=len(payments), fault="".join({payment.fault for payment in payments})
    )


class Report(Verdict):
    action: Literal["report"]


def worth_telling(ctx: Hour) -> Report | None:
    """An hour with a payment is worth a line."""
    trip(ctx.fault, "periodic rule")
    return Report(action="report", reason=f"{ctx.payments} payments") if ctx.payments else None


def report(ctx: Hour, verdict: Report) -> About:
    return About(customer_id=ctx.customer_id)


def shop(
    name: str = "shop",
    *,
    version: int = 1,
    on_timeout: Literal["reject", "approve"] = "reject",
    dedupe: Dedupe = DEDUPE,
    **options: Any,
) -> Pipeline:
    """The pipeline under a name of your own."""
    pipeline = Pipeline(name, version=version, **options)
    order = pipeline.entity("order", Order, key="order_id", dedupe=dedupe)
    order.on(Placed)(placed)
    order.on(Paid)(paid)
    order.on(Cancelled)(cancelled)
    customer = pipeline.entity("customer", Customer, key="customer_id", order="arrival")
    customer.on(Paid)(spent)
    order.link(customer, "orders", on="customer_id", carries=OrderSummary)
    customer.window(within=timedelta(hours=1))(payments)

    order.context(loss)
    refund = order.decision("refund", verdict=Refund, context=loss, on=(Cancelled,))
    refund.rule(money_back)
    refund.action("refund", stakes="low", deadline=timedelta(hours=2))(refund_money)

    customer.context(standing)
    watch = customer.decision(
        "watch", verdict=Watch, context=standing, on=(Paid,), settle=timedelta(minutes=10)
    )
    watch.rule(too_much)
    watch.rule(good_customer)
    watch.action("block", stakes="high")(block)
    watch.action("praise", stakes="medium")(praise)
    watch.human(deadline=REVIEW_DEADLINE, on_timeout=on_timeout)

    customer.context(hour)
    telling = customer.decision(
        "telling", verdict=Report, context=hour, every=timedelta(hours=1), settle=timedelta(minutes=5)
    )
    telling.rule(worth_telling)
    telling.action("report", stakes="medium")(report)
    return pipeline
