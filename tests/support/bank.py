"""A pipeline for tests under load: balances that a lost or doubled event would change; every tenth move is an action.

`bank(name)` declares it, `moves` makes events, `Books` folds them on its own.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

from schemas.keys import action_id, decision_id
from schemas.record import Given
from streams import ActionInput, Context, Event, Pipeline, State, Verdict
from streams.memory import happened

START = datetime(2024, 5, 1, tzinfo=UTC)


class Moved(Event, type="money.moved"):
    account: str
    amount: int


class Account(State):
    balance: int = 0
    moves: int = 0


class Seen(Context):
    account: str
    amount: int


class Alert(Verdict):
    action: Literal["alert"]


class Note(ActionInput):
    account: str
    amount: int


def moved(state: Account, event: Moved) -> Account:
    return state.evolve(balance=state.balance + event.amount, moves=state.moves + 1)


def seen(key: str, event: Moved) -> Seen:
    return Seen(account=key, amount=event.amount)


def round_sums(ctx: Seen) -> Alert | None:
    """Round sums are worth a look."""
    return Alert(action="alert", reason=f"{ctx.amount} is round") if ctx.amount % 10 == 0 else None


def note(ctx: Seen, verdict: Alert) -> Note:
    return Note(account=ctx.account, amount=ctx.amount)


def bank(name: str) -> Pipeline:
    """The pipeline under a name of your own."""
    pipeline = Pipeline(name, version=1)
    account = pipeline.entity("account", Account, key="account", order="arrival")
    account.on(Moved)(moved)
    account.context(seen)
    alert = account.decision("alert", verdict=Alert, context=seen, on=(Moved,))
    alert.rule(round_sums)
    alert.action("alert", stakes="low")(note)
    return pipeline


def moves(
    number: int, *, accounts: int = 200, duplicates: float = 0.05, seed: int = 1, start: int = 0
) -> Iterator[Given]:
    """`number` raw records and a share of duplicates of them, keyed by account; ids count from `start`."""
    random = Random(seed)
    recent: list[Given] = []
    for position in range(start, start + number):
        event = Moved(account=f"a{random.randrange(accounts)}", amount=random.randrange(-500, 1000))
        at = START + timedelta(milliseconds=position)
        record = happened(event, at, f"m{position}", key=event.account)
        yield record
        recent = [*recent[-20:], record]
        if random.random() < duplicates:
            yield random.choice(recent)


@dataclass
class Books:
    """What a list of moves must come to, folded without Midstream."""

    name: str
    balances: Counter[str] = field(default_factory=Counter)
    moves: Counter[str] = field(default_factory=Counter)
    actions: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    duplicates: int = 0

    def enter(self, records: Iterable[Given]) -> None:
        """Fold raw records."""
        for record in records:
            event = Moved.model_validate_json(record.value or b"")
            event_id = dict(record.headers)["ce_id"].decode()
            if event_id in self.ids:
                self.duplicates += 1
                continue
            self.ids.add(event_id)
            self.balances[event.account] += event.amount
            self.moves[event.account] += 1
            if event.amount % 10 == 0:
                entity = f"account:{event.account}"
                decision = decision_id(self.name, 1, "alert", entity, f"{entity}/{event_id}")
                self.actions.add(action_id(decision, "alert", 0))
