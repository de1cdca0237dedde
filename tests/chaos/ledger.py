"""The pipeline under attack, and the raw records that it is fed: `ledger(name)` declares it, `entries` makes records.

money.moved → account ──copy──► branch, so that a lane's output is another lane's input. Of both an amount can make an
action at once; money.flagged makes one by a timer. What makes a function fail or hang, and poison, are in the data.
"""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

from schemas.record import Given
from streams import ActionInput, Context, Dedupe, Event, Pipeline, State, Verdict
from streams.memory import happened

START = datetime(2024, 5, 1, tzinfo=UTC)
MAX_BODY_BYTES = 8192
ACCOUNTS, BRANCHES = 150, 7
# The reducer raises on the one, and never returns on the other unless it has been mended.
UNLUCKY, ENDLESS = 13, 1_000_013
# What stands for a moved sum that is worth an action: of the account, of the branch.
ROUND, QUARTER = 10, 25


class Moved(Event, type="money.moved"):
    account: str
    branch: str
    amount: int


class Flagged(Event, type="money.flagged"):
    account: str


class Account(State):
    balance: int = 0
    moves: int = 0
    flags: int = 0


class Branch(State):
    total: int = 0
    moves: int = 0


class Sum(Context):
    key: str
    amount: int


class Flag(Context):
    key: str


class Alert(Verdict):
    action: Literal["alert"]


class Report(Verdict):
    action: Literal["report"]


class Inspect(Verdict):
    action: Literal["inspect"]


class Note(ActionInput):
    key: str


def moved(state: Account, event: Moved) -> Account:
    if event.amount == UNLUCKY:
        raise RuntimeError("an unlucky amount")
    return state.evolve(balance=state.balance + event.amount, moves=state.moves + 1)


def moved_or_stuck(state: Account, event: Moved) -> Account:
    while event.amount == ENDLESS:
        time.sleep(0.01)
    return moved(state, event)


def flagged(state: Account, event: Flagged) -> Account:
    return state.evolve(flags=state.flags + 1)


def booked(state: Branch, event: Moved) -> Branch:
    return state.evolve(total=state.total + event.amount, moves=state.moves + 1)


def of_account(key: str, event: Moved) -> Sum:
    return Sum(key=key, amount=event.amount)


def of_branch(key: str, event: Moved) -> Sum:
    return Sum(key=key, amount=event.amount)


def of_flag(key: str, event: Flagged) -> Flag:
    return Flag(key=key)


def is_round(ctx: Sum) -> Alert | None:
    """Round sums are worth a look."""
    return Alert(action="alert", reason=f"{ctx.amount} is round") if ctx.amount % ROUND == 0 else None


def is_quarter(ctx: Sum) -> Report | None:
    """Branches report what can be paid in quarters."""
    return Report(action="report", reason=f"{ctx.amount}") if ctx.amount % QUARTER == 0 else None


def is_flagged(ctx: Flag) -> Inspect:
    """A flag is always followed."""
    return Inspect(action="inspect", reason="flagged")


def note_alert(ctx: Sum, verdict: Alert) -> Note:
    return Note(key=ctx.key)


def note_report(ctx: Sum, verdict: Report) -> Note:
    return Note(key=ctx.key)


def note_inspect(ctx: Flag, verdict: Inspect) -> Note:
    return Note(key=ctx.key)


def ledger(name: str, *, stuck: bool = False) -> Pipeline:
    """The pipeline under a name of your own; `stuck`: with the reducer that has not been mended."""
    pipeline = Pipeline(name, version=1, max_body_bytes=MAX_BODY_BYTES)
    account = pipeline.entity("account", Account, key="account", order="arrival", dedupe=Dedupe(limit=64))
    account.on(Moved)(moved_or_stuck if stuck else moved)
    account.on(Flagged)(flagged)
    branch = pipeline.entity("branch", Branch, key="branch", order="arrival")
    branch.on(Moved)(booked)

    account.context(of_account)
    alert = account.decision("alert", verdict=Alert, context=of_account, on=(Moved,))
    alert.rule(is_round)
    alert.action("alert", stakes="low")(note_alert)

    branch.context(of_branch)
    report = branch.decision("report", verdict=Report, context=of_branch, on=(Moved,))
    report.rule(is_quarter)
    report.action("report", stakes="low")(note_report)

    account.context(of_flag)
    inspect = account.decision(
        "inspect", verdict=Inspect, context=of_flag, on=(Flagged,), settle=timedelta(seconds=1)
    )
    inspect.rule(is_flagged)
    inspect.action("inspect", stakes="low")(note_inspect)
    return pipeline


def entries(random: Random, start: int, number: int) -> Iterator[Given]:
    """`number` raw records whose ids count from `start`, keyed by account: events, repetitions, poison."""
    recent: list[Given] = []
    for position in range(start, start + number):
        account, at = f"a{random.randrange(ACCOUNTS)}", START + timedelta(milliseconds=position)
        event: Event
        if random.random() < 0.03:
            event = Flagged(account=account)
        else:
            branch = f"b{random.randrange(BRANCHES)}"
            event = Moved(account=account, branch=branch, amount=random.randrange(-500, 1000))
        record = happened(event, at, f"m{position}", key=account)
        yield record
        recent = [*recent[-10:], record]
        if random.random() < 0.05:
            yield random.choice(recent)
        if random.random() < 0.01:
            yield poison(random, record)


def poison(random: Random, record: Given) -> Given:
    """A record like `record` with which something is wrong."""
    value, headers = record.value or b"", dict(record.headers)
    wrong = random.choice(["not JSON", "unknown type", "field missing", "oversize", "other body"])
    if wrong == "unknown type":
        headers["ce_type"] = b"money.forged"
    elif wrong == "other body":
        # The same id once more: a conflict that only its owner can see.
        headers["ce_type"] = b"money.moved"
        value = b'{"account":"%s","branch":"b0","amount":424242}' % (record.key or b"")
    else:
        headers["ce_id"] += b"-poison"
        value = {"not JSON": b"{oops", "field missing": b"{}", "oversize": b'{"a":"' + b"x" * MAX_BODY_BYTES}[
            wrong
        ]
    return record._replace(value=value, headers=list(headers.items()))


def moved_by(amount: int, id: str, account: str = "a0") -> Given:
    """One raw record with an amount of your own."""
    return happened(Moved(account=account, branch="b0", amount=amount), START, id, key=account)
