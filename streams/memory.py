"""A pipeline without a broker: a list of events in, rows and records out. For tests and for `midstream check`.

It runs the very steps that the lanes run, on one partition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from pydantic_core import to_json

from schemas.action import ActionRecord
from schemas.audit import AuditRecord
from schemas.decision import DecisionRecord
from schemas.event import ANSWERED, CLOCK, Answered, Clock, Envelope, Event, envelope_headers
from schemas.quarantine import read_quarantine
from schemas.record import Given, Out
from schemas.review import ReviewRecord
from schemas.row import Row, State
from schemas.times import rfc3339, to_ms
from streams import topics
from streams.pipeline import Pipeline
from streams.plan import Plan, compile_plan
from streams.topology import EntityLane, Ingest, door_of
from tables.entity import Rows
from tables.timers import Timers


def happened(event: Event, at: datetime, id: str, *, source: str = "/test", key: str = "test") -> Given:
    """`event` as a raw record in CloudEvents binary mode."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", id.encode()),
        ("ce_type", event.event_type.encode()),
        ("ce_source", source.encode()),
        ("ce_time", rfc3339(to_ms(at)).encode()),
        ("content-type", b"application/json"),
    ]
    return Given("raw", 0, 0, to_ms(at), key.encode(), event.model_dump_json().encode(), headers)


def passed(at: datetime) -> Given:
    """The playback clock: time has come to `at`."""
    clock = Clock(at_ms=to_ms(at), origin="raw/0", origins=1)
    headers = [("ce_type", CLOCK.encode())]
    return Given("raw", 0, 0, clock.at_ms, b"clock", to_json(clock), headers)


@dataclass
class Memory:
    """A pipeline's rows and records, held in memory."""

    pipeline: Pipeline
    plan: Plan = field(init=False)
    records: dict[str, list[Out]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        """Compile the pipeline and open its two lanes."""
        self.plan = compile_plan(self.pipeline)
        states = {name: entity.state for name, entity in self.plan.entities.items()}
        self.ingest = Ingest(self.plan, door_of(self.plan, playback=True), 0, 1)
        self.lane = EntityLane(self.plan, 0, 1, Rows(states, lambda key: None), Timers(), playback=True)
        self._offset = 0

    def send(self, records: Iterable[Given]) -> None:
        """Send raw records through the whole flow, one after the other."""
        for record in records:
            self._settle(self.ingest.step(record))

    def answer(self, answer: Answered, at: datetime, id: str = "answer") -> None:
        """Answer an open review, as `midstream review` does."""
        held = next(review for review in self.reviews if review.review_id == answer.review_id)
        subject = f"{held.entity}:{held.key}"
        envelope = Envelope(id, ANSWERED, "/test", to_ms(at), subject, answer.model_dump_json().encode())
        out = Out(topics.EVENTS, subject.encode(), envelope.data, envelope_headers(envelope))
        self._settle([out])

    def _settle(self, outs: list[Out]) -> None:
        """Follow `outs` until nothing more comes of them."""
        waiting = list(outs)
        while waiting:
            out = waiting.pop(0)
            self.records[out.topic].append(out)
            if out.topic == topics.EVENTS:
                self._offset += 1
                record = Given(topics.EVENTS, 0, self._offset, 0, out.key, out.value, out.headers)
                waiting += self.lane.step(record)

    def row(self, entity: str, key: str) -> Row[State]:
        """The row of `entity:key`."""
        return self.lane.rows.get(entity, key)

    @property
    def decisions(self) -> list[DecisionRecord]:
        """The decisions, in the order in which they were made."""
        return [
            DecisionRecord.model_validate_json(out.value or b"") for out in self.records[topics.DECISIONS]
        ]

    @property
    def actions(self) -> list[ActionRecord]:
        """The actions, in order."""
        return [ActionRecord.model_validate_json(out.value or b"") for out in self.records[topics.ACTIONS]]

    @property
    def reviews(self) -> list[ReviewRecord]:
        """The reviews as they stand: the last record of each."""
        last = {
            out.key: ReviewRecord.model_validate_json(out.value or b"")
            for out in self.records[topics.REVIEWS]
        }
        return list(last.values())

    @property
    def audit(self) -> list[AuditRecord]:
        """The audit chain, in order."""
        return [AuditRecord.model_validate_json(out.value or b"") for out in self.records[topics.AUDIT]]

    @property
    def quarantine(self) -> list[dict[str, str]]:
        """Reason, field, detail and origin of every refused record."""
        return [read_quarantine(out.headers) for out in self.records[topics.QUARANTINE]]


def run(pipeline: Pipeline, records: Iterable[Given]) -> Memory:
    """Send `records` (see `happened`, `passed`) through `pipeline` and return what became of them."""
    memory = Memory(pipeline)
    memory.send(records)
    return memory
