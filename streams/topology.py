"""The whole flow on one screen: raw records in, events out; events in, state, context, decisions and actions out.

    raw ─[ingest]─► events ─[entity: state → context → decision → action]─► changes, decisions, reviews, actions
     │                ▲ ▲                       │  │
     └► quarantine ◄──│─└── copies, links, clock ┘  └► quarantine
                      └──── people's answers

Both steps are pure: they read records and rows and return what is to be written; `streams.lanes` writes it in one
transaction. Time comes in clock records, never from a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydantic import TypeAdapter, ValidationError

from agents import data, decision, state
from agents.data import Accepted, Door
from schemas.event import ANSWERED, CLOCK, LINKED, Answered, Clock, Envelope, Event, Linked, read_envelope
from schemas.keys import entity_key
from schemas.lane import ENTITY, WALL
from schemas.quarantine import Reason, Refusal
from schemas.record import Out, Record
from schemas.row import Row, State
from streams import deciding, records
from streams.deciding import UserCodeError, blamed
from streams.plan import EntityPlan, Plan
from streams.topics import EVENTS, RAW, topic_name
from tables.entity import Rows
from tables.timers import Timers

AnyRow = Row[State]


def door_of(plan: Plan, playback: bool) -> Door:
    """What ingest needs of `plan`. In playback it believes the publisher's clock."""
    return Door(plan.types, plan.bare, plan.max_body_bytes, plan.earliest_ms, plan.ahead_ms, playback)


@dataclass
class Ingest:
    """The first lane: `raw` → `events` or `quarantine`."""

    plan: Plan
    door: Door
    partitions: int
    tally: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def batch(self, batch: Sequence[Record]) -> list[Out]:
        """What a batch of raw records becomes."""
        return [out for record in batch for out in self.step(record)]

    def step(self, record: Record) -> list[Out]:
        """The way of one raw record: judged, then sent to the entity that owns it."""
        judged = data.admit(record, self.door)
        if isinstance(judged, Accepted):
            self.tally["accepted", judged.envelope.type] += 1
            owner = self.plan.types[judged.envelope.type].owner
            return [records.fact(owner, judged.key, judged.envelope)]
        if isinstance(judged, Clock):
            return [
                records.clock(judged, partition, record.timestamp) for partition in range(self.partitions)
            ]
        self.tally["quarantined", judged.reason.value] += 1
        return [records.refused(record, topic_name(self.plan, RAW), judged)]


@dataclass
class EntityLane:
    """The second lane: one partition of `events`, and the rows of every entity on it."""

    plan: Plan
    partition: int
    partitions: int
    rows: Rows
    timers: Timers
    playback: bool = False
    tally: Counter[tuple[str, ...]] = field(default_factory=Counter)
    models: dict[str, Callable[[bytes], Event]] = field(init=False)
    # (event type, entity) for every entity that owns a type or hears a copy of it.
    heard: set[tuple[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        """Look the validators up once."""
        self.models = {n: TypeAdapter(t.model).validator.validate_json for n, t in self.plan.types.items()}
        self.heard = {(name, known.owner) for name, known in self.plan.types.items()}
        self.heard |= {(name, copy.entity) for name, copies in self.plan.copies.items() for copy in copies}

    def batch(self, batch: Sequence[Record]) -> list[Out]:
        """What a batch of events becomes; the changed rows wait in `rows`."""
        return [out for record in batch for out in self.step(record)]

    def step(self, record: Record) -> list[Out]:
        """Read one record and send it the way of its kind; what cannot be followed is quarantined."""
        try:
            envelope = read_envelope(record.headers, record.value or b"")
            entity, _, key = (record.key or b"").decode().partition(":")
            body = self.body(entity, envelope)
        except (KeyError, ValueError) as error:
            return [
                self.refuse(record, Refusal(Reason.FOREIGN_RECORD, detail=f"{type(error).__name__}: {error}"))
            ]
        if isinstance(body, Clock):
            return self.tick(record, envelope, body)
        plan = self.plan.entities[entity]
        try:
            if isinstance(body, Linked):
                return self.relate(plan, key, envelope, body)
            if body is None:
                return self.answer(plan, key, record, envelope)
            return self.follow(plan, key, record, envelope, body)
        except UserCodeError as error:
            return [self.refuse(record, Refusal(error.reason, error.function, str(error)))]

    def body(self, entity: str, envelope: Envelope) -> Event | Linked | Clock | None:
        """What a record says, if it can be for `entity`; None for an answer, which is judged by itself.

        Raises:
            KeyError, ValueError: somebody else wrote it, or an earlier version of the pipeline.
        """
        if envelope.type == CLOCK:
            return Clock.model_validate_json(envelope.data)
        rules = self.plan.entities[entity].rules
        if envelope.type == ANSWERED:
            return None
        if envelope.type == LINKED:
            linked = Linked.model_validate_json(envelope.data)
            if linked.link not in rules.links_in:
                raise ValueError(f"{entity} holds no relation {linked.link!r}")
            return linked
        if (envelope.type, entity) not in self.heard:
            raise ValueError(f"{entity} does not hear {envelope.type!r}")
        return self.models[envelope.type](envelope.data)

    def follow(
        self, plan: EntityPlan, key: str, record: Record, envelope: Envelope, event: Event
    ) -> list[Out]:
        """The way of one fact: 1 known? 2 state, 3 windows, 4 timers, 5 decisions, 6 the row, 7 whom to tell."""
        row = self.rows.get(plan.name, key)
        now_ms = self.now_ms(plan)
        owner = self.plan.types[envelope.type].owner == plan.name
        # 1. The owner judges every event once; copies come from its lane, each exactly once.
        if owner:
            judged = state.admit(plan.rules, row, envelope)
            if isinstance(judged, Refusal):
                return [self.refuse(record, judged)]
            if isinstance(judged, state.Duplicate):
                self.tally["duplicate", envelope.type] += 1
                self.rows.put(plan.name, key, judged.row)
                return []
            row = judged
        # 2. State.
        try:
            reduced = state.reduce(plan.rules, row, envelope, event)
            row, told = state.links(plan.rules, key, reduced)
            # 3. Windows.
            row = state.collect(plan.rules, row, envelope, event, now_ms)
        except Exception as error:
            takes = (window.take.get(envelope.type) for window in plan.rules.windows)
            raise blamed(
                error, Reason.REDUCER_FAILED, plan.rules.reducers.get(envelope.type), *takes
            ) from error
        # 4. Timers.
        for each in plan.decisions:
            row = decision.arm(each.rules, row, envelope, now_ms)
        # 5. Decisions that look at once.
        looking = deciding.Looking(self.plan, plan, key, record, envelope, self.partition)
        row, made = deciding.on_event(looking, row, event) if plan.decisions else (row, [])
        # 6. The row, and what changed in it.
        outs = self.store(plan, key, row)
        self.tally["event", envelope.type] += 1
        if reduced.change is not None:
            outs.append(records.changed(plan.name, key, envelope, reduced.change, self.partition))
        # 7. Other entities, and the world.
        if owner:
            outs += self.copies(envelope, event)
        outs += [records.link(envelope, link) for link in told]
        return outs + self.seal(made)

    def copies(self, envelope: Envelope, event: Event) -> list[Out]:
        """The event for every other entity that hears it and that it names."""
        named = ((copy.entity, getattr(event, copy.key_field)) for copy in self.plan.copies[envelope.type])
        return [records.fact(entity, key, envelope) for entity, key in named if key]

    def relate(self, plan: EntityPlan, key: str, envelope: Envelope, linked: Linked) -> list[Out]:
        """The way of a link: it lands in the row of the entity that it tells."""
        row = state.relate(plan.rules, self.rows.get(plan.name, key), envelope, linked, self.now_ms(plan))
        self.tally["event", LINKED] += 1
        return self.store(plan, key, row)

    def answer(self, plan: EntityPlan, key: str, record: Record, envelope: Envelope) -> list[Out]:
        """The way of a person's answer: it closes the review and becomes a decision of its own."""
        row = self.rows.get(plan.name, key)
        try:
            given = Answered.model_validate_json(envelope.data)
        except ValidationError as error:
            return [self.refuse(record, data.refusal_of(error, envelope.data))]
        if given.review_id not in row.reviews:
            detail = f"{given.review_id} is not open: it was answered, has expired, or never was"
            return [self.refuse(record, Refusal(Reason.REVIEW_NOT_OPEN, "review_id", detail))]
        looking = deciding.Looking(self.plan, plan, key, record, envelope, self.partition)
        row, made = deciding.on_answer(looking, row, given)
        return self.store(plan, key, row) + self.seal(made)

    def tick(self, record: Record, envelope: Envelope, clock: Clock) -> list[Out]:
        """The way of time: 1 the lane's clock, 2 every timer that is due, 3 the clock of the next rank."""
        name = str(self.partition)
        lane = self.rows.lane(name)
        heard = lane.heard(clock)
        # 1. Nothing moves until the slowest origin has moved.
        self.rows.put_lane(name, heard)
        before, now = lane.now_ms.get(clock.rank, -1), heard.now_ms.get(clock.rank, -1)
        done = len(heard.final.get(clock.rank, ())) == clock.origins
        if now <= before and not done:
            return []
        # 2. In the order of their due times.
        outs = self.fire(record, envelope, clock.rank, now)
        # 3. What the entities of this rank had to tell has been written before this clock.
        if clock.rank != WALL and clock.rank < self.plan.ranks:
            origin = f"{EVENTS}/{self.partition}"
            onward = Clock(at_ms=now, origin=origin, origins=self.partitions, rank=clock.rank + 1, final=done)
            outs += [
                records.clock(onward, partition, envelope.ingested_ms) for partition in range(self.partitions)
            ]
        return outs

    def fire(self, record: Record, envelope: Envelope, rank: int, now_ms: int) -> list[Out]:
        """Fire every timer due by `now_ms` on entities of `rank` (all, for the wall clock)."""
        outs: list[Out] = []
        later: list[tuple[int, str, str]] = []
        while (due := self.timers.pop_due(now_ms)) is not None:
            due_ms, entity, key = due
            plan = self.plan.entities[entity]
            if rank not in (WALL, plan.rank):
                later.append(due)
                continue
            row = self.rows.get(entity, key)
            ripe = min(
                ((t.due_ms, name) for name, t in row.timers.items() if t.due_ms <= now_ms), default=None
            )
            if ripe is None or ripe[0] != due_ms:
                continue
            # A window that nobody feeds runs empty by time alone; its periodic timer then rests. As of `due_ms`:
            # time may have come far at once, and this timer must still see what it is about.
            self.rows.put(entity, key, state.expire(plan.rules, row, due_ms))
            outs += self.fire_one(plan, key, record, envelope, ripe[1])
        for entry in later:
            self.timers.add(*entry)
        return outs

    def fire_one(
        self, plan: EntityPlan, key: str, record: Record, envelope: Envelope, name: str
    ) -> list[Out]:
        """Fire one timer of one row."""
        row = self.rows.get(plan.name, key)
        timer = row.timers[name]
        looking = deciding.Looking(self.plan, plan, key, record, envelope, self.partition)
        self.tally["timer", timer.kind] += 1
        try:
            row, made = deciding.on_timer(looking, row, name, self.models)
        except UserCodeError as error:
            refusal = Refusal(error.reason, error.function, str(error))
            gone = decision.after_firing(plan.decision(timer.decision).rules, row, name)
            part = f"{plan.name}:{key}:{name}"
            failed = records.refused(
                record, topic_name(self.plan, EVENTS), refusal, part, timer.model_dump_json().encode()
            )
            self.tally["quarantined", refusal.reason.value] += 1
            return [*self.store(plan, key, gone, fired=True), failed]
        return self.store(plan, key, row, fired=True) + self.seal(made)

    def now_ms(self, plan: EntityPlan) -> int | None:
        """How far time has come for `plan`; None when only the events themselves tell (no tick was needed yet).

        In playback the first clock may still be on its way while one source has run far ahead: until it has come
        it is as early as can be, so that nothing is thought to be over.
        """
        now_ms = self.rows.lane(str(self.partition)).time_ms(plan.rank)
        return 0 if now_ms is None and self.playback else now_ms

    def store(self, plan: EntityPlan, key: str, row: AnyRow, fired: bool = False) -> list[Out]:
        """Keep `row` for the end of the batch; note when its next timer is due, if that is news or was just taken."""
        before_ms = self.rows.get(plan.name, key).next_due_ms()
        self.rows.put(plan.name, key, row)
        due_ms = row.next_due_ms()
        if due_ms is not None and (fired or due_ms != before_ms):
            self.timers.add(due_ms, plan.name, key)
        return []

    def seal(self, made: Sequence[deciding.Made]) -> list[Out]:
        """Write what was decided, and chain its audit records to the lane's."""
        outs: list[Out] = []
        for each in made:
            outs += each.outs
            self.tally["decision", each.decision, each.route, each.gate] += 1
            for entry in each.audit:
                lane, out = records.audited(self.rows.lane(str(self.partition)), entry, self.partition)
                self.rows.put_lane(str(self.partition), lane)
                outs.append(out)
        return outs

    def refuse(self, record: Record, refusal: Refusal) -> Out:
        """Quarantine one record of `events`."""
        self.tally["quarantined", refusal.reason.value] += 1
        return records.refused(record, topic_name(self.plan, EVENTS), refusal)


def lane_key(partition: int) -> bytes:
    """The row key of the lane itself."""
    return entity_key(ENTITY, str(partition)).encode()
