"""The whole flow on one screen: raw records in, events out; events in, state, context, decisions and actions out.

    raw ─[ingest]─► events ─[entity: state → context → decision → action]─► changes, decisions, reviews, actions
     │                ▲ ▲                       │  │
     └► quarantine ◄──│─└── copies, links, clock ┘  └► quarantine
                      └──── people's answers

Both steps are pure: they read records and rows and return what is to be written; `streams.lane` writes it in one
transaction. Time comes in clock records, never from a clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from agents import data, decision, links, refold, state
from agents.data import Accepted, Door
from agents.workflow import IllegalTransition
from schemas.event import ANSWERED, CLOCK, LINKED, Answered, Clock, Envelope, Event, Linked, read_envelope
from schemas.keys import entity_key
from schemas.lane import ENTITY, WALL, LaneRow
from schemas.quarantine import Reason, Refusal
from schemas.record import Out, Record
from schemas.row import Row, State
from streams import deciding, records
from streams.deciding import UserCodeError, blamed
from streams.plan import EntityPlan, Plan
from streams.topics import EVENTS, MAX_OUT_BYTES, QUARANTINE, RAW, topic_name
from tables.entity import Rows
from tables.timers import Timers

AnyRow = Row[State]
# What clock records are keyed by; no entity, so no colon.
CLOCK_KEY = "clock"


def door_of(plan: Plan, playback: bool) -> Door:
    """What ingest needs of `plan`. In playback it believes the publisher's clock."""
    return Door(plan.types, plan.bare, plan.max_body_bytes, plan.earliest_ms, plan.ahead_ms, playback)


@dataclass
class Ingest:
    """The first lane: `raw` → `events` or `quarantine`."""

    plan: Plan
    door: Door
    partition: int
    partitions: int
    tally: Counter[tuple[str, ...]] = field(default_factory=Counter)
    # A body has its limit at the door already.
    careful: bool = False

    def start_over(self, timers: Iterable[tuple[int, str, str]]) -> None:
        """Ingest remembers nothing but its tally."""
        self.tally.clear()

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
        return [records.refused(record, topic_name(self.plan, RAW), self.partition, judged)]


class At(NamedTuple):
    """Whom a record of `events` is about."""

    plan: EntityPlan
    # Whether this entity judges the event (a copy has been judged by its owner).
    owner: bool
    key: str
    row_key: bytes


class Way(NamedTuple):
    """Where records of one type go when they are for one entity: how to read the body, and who follows it."""

    plan: EntityPlan | None
    owner: bool
    # Raises ValueError when somebody else wrote the body, or an earlier version of the pipeline.
    read: Callable[[bytes], Any]
    follow: Callable[..., list[Out]]


class Held(NamedTuple):
    """What a lane knew before a record."""

    row: AnyRow
    lane: LaneRow
    tally: Counter[tuple[str, ...]]


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
    # Look at the size of what each record makes: a batch made something that Kafka would not take.
    careful: bool = False
    models: dict[str, Callable[[bytes], Event]] = field(init=False)
    # (entity, event type) → way.
    ways: dict[tuple[str, str], Way] = field(init=False)
    # How far time has come, per rank; looked up once between ticks.
    times: dict[int, int | None] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Look everything up once."""
        self.models = {n: TypeAdapter(t.model).validator.validate_json for n, t in self.plan.types.items()}
        self.ways = {(CLOCK_KEY, CLOCK): Way(None, False, Clock.model_validate_json, self.tick)}
        for name, plan in self.plan.entities.items():
            self.ways[name, LINKED] = Way(plan, False, linked_to(plan), self.relate)
            # An answer is judged when the row is known.
            self.ways[name, ANSWERED] = Way(plan, False, bytes, self.answer)
        for type, known in self.plan.types.items():
            for name in (known.owner, *(copy.entity for copy in self.plan.copies[type])):
                plan, owner = self.plan.entities[name], name == known.owner
                self.ways[name, type] = Way(plan, owner, self.models[type], self.follow)

    def start_over(self, timers: Iterable[tuple[int, str, str]]) -> None:
        """Know again what is stored, and nothing of what came since; `timers` are the stored ones."""
        self.rows.start_over()
        self.timers.start_over(timers)
        self.tally.clear()
        self.times.clear()

    def step(self, record: Record) -> list[Out]:
        """Read one record and send it the way of its kind; what cannot be followed is quarantined."""
        row_key = record.key or b""
        try:
            envelope = read_envelope(record.headers, record.value or b"")
            entity, _, key = row_key.decode().partition(":")
            way = self.ways[entity, envelope.type]
            body = way.read(envelope.data)
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            return [self.refuse(record, foreign(record, error))]
        if way.plan is None:
            return self.tick(record, envelope, body)
        at = At(way.plan, way.owner, key, row_key)
        held = self.hold(at) if self.careful else None
        try:
            outs: list[Out] = way.follow(at, record, envelope, body)
        except UserCodeError as error:
            return [self.refuse(record, Refusal(error.reason, error.function, str(error)))]
        if held is not None and (refusal := self.too_large(at, outs)) is not None:
            self.let_go(at, held)
            return [self.refuse(record, refusal)]
        return outs

    def hold(self, at: At) -> Held:
        """All that a record may change."""
        row, lane = self.rows.at(at.plan.name, at.row_key), self.rows.lane(str(self.partition))
        return Held(row, lane, self.tally.copy())

    def let_go(self, at: At, held: Held) -> None:
        """All as it was held. A timer that was noted since is found stale when its time comes."""
        self.rows.put_at(at.plan.name, at.row_key, held.row)
        self.rows.put_lane(str(self.partition), held.lane)
        self.tally = held.tally

    def too_large(self, at: At, outs: Sequence[Out]) -> Refusal | None:
        """Why what a record made cannot be written, if it cannot."""
        row_bytes = self.rows.size_bytes(at.plan.name, at.row_key)
        if row_bytes > MAX_OUT_BYTES:
            detail = f"the row would have {row_bytes} bytes, not {MAX_OUT_BYTES}: keep less history or smaller fields"
            return Refusal(Reason.ROW_TOO_LARGE, f"{at.plan.name}:{at.key}", detail)
        for out in outs:
            if out.value is not None and len(out.value) > MAX_OUT_BYTES and out.topic != QUARANTINE:
                detail = f"{len(out.value)} bytes; at most {MAX_OUT_BYTES}"
                return Refusal(Reason.OUTPUT_TOO_LARGE, out.topic, detail)
        return None

    def follow(self, at: At, record: Record, envelope: Envelope, event: Event) -> list[Out]:
        """The way of one fact: 1 known? 2 state, 3 windows, 4 timers, 5 decisions, 6 the row, 7 whom to tell."""
        plan, rules = at.plan, at.plan.rules
        before = self.rows.at(plan.name, at.row_key)
        now_ms = self.now_ms(plan)
        # 1. The owner judges every event once; copies come from its lane, each exactly once.
        judged = state.admit(rules, before, envelope) if at.owner else None
        if rules.order == "refold" and not isinstance(judged, (state.Duplicate, Refusal)):
            judged = refold.late(rules, before, envelope) or judged
        if isinstance(judged, Refusal):
            return [self.refuse(record, judged)]
        if isinstance(judged, state.Duplicate):
            self.tally["duplicate", envelope.type] += 1
            self.rows.put_at(plan.name, at.row_key, judged.row)
            return []
        try:
            # 2. State.
            if rules.order == "refold":
                reduced = refold.fold(rules, before, envelope, event, judged, self.read)
            else:
                reduced = state.reduce(rules, before, envelope, event, judged)
            row, told = links.tell(rules, at.key, reduced) if rules.links_out else (reduced.row, [])
            # 3. Windows.
            if rules.windows:
                row = state.collect(rules, row, envelope, event, now_ms)
        except IllegalTransition as error:
            return [self.refuse(record, error.refusal)]
        except Exception as error:
            takes = (window.take.get(envelope.type) for window in rules.windows)
            raise blamed(error, Reason.REDUCER_FAILED, rules.reducers.get(envelope.type), *takes) from error
        made: Sequence[deciding.Made] = ()
        if plan.decisions:
            # 4. Timers.
            for each in plan.decisions:
                row = decision.arm(each.rules, row, envelope, now_ms)
            # 5. Decisions that look at once.
            row, made = deciding.on_event(self.looking(at, record, envelope), row, event)
        # 6. The row, and what changed in it.
        self.store(at, before, row)
        self.tally["event", envelope.type] += 1
        outs: list[Out] = []
        if reduced.changed or reduced.said or reduced.restated:
            of = records.Subject(plan.name, at.key, at.row_key, row.version, self.partition)
            outs += records.changes(of, envelope, reduced)
        # 7. Other entities, and the world.
        if at.owner:
            outs += self.copies(envelope, event)
        outs += [records.link(envelope, link) for link in told]
        return outs + self.seal(made) if made else outs

    def read(self, type: str, data: str) -> Event:
        """An event that a row has kept."""
        return self.models[type](data.encode())

    def looking(self, at: At, record: Record, envelope: Envelope) -> deciding.Looking:
        """Who looks, when a decision does."""
        return deciding.Looking(self.plan, at.plan, at.key, record, envelope, self.partition)

    def copies(self, envelope: Envelope, event: Event) -> list[Out]:
        """The event for every other entity that hears it and that it names."""
        if not self.plan.copies[envelope.type]:
            return []
        named = [(copy.entity, getattr(event, copy.key_field)) for copy in self.plan.copies[envelope.type]]
        return [records.fact(entity, key, envelope) for entity, key in named if key]

    def relate(self, at: At, record: Record, envelope: Envelope, linked: Linked) -> list[Out]:
        """The way of a link: it lands in the row of the entity that it tells."""
        before = self.rows.at(at.plan.name, at.row_key)
        self.tally["event", LINKED] += 1
        self.store(at, before, links.relate(at.plan.rules, before, envelope, linked, self.now_ms(at.plan)))
        return []

    def answer(self, at: At, record: Record, envelope: Envelope, body: bytes) -> list[Out]:
        """The way of a person's answer: it closes the review and becomes a decision of its own."""
        before = self.rows.at(at.plan.name, at.row_key)
        try:
            given = Answered.model_validate_json(body)
        except ValidationError as error:
            return [self.refuse(record, data.refusal_of(error, body))]
        if given.review_id not in before.reviews:
            detail = f"{given.review_id} is not open: it was answered, has expired, or never was"
            return [self.refuse(record, Refusal(Reason.REVIEW_NOT_OPEN, "review_id", detail))]
        row, made = deciding.on_answer(self.looking(at, record, envelope), before, given)
        self.store(at, before, row)
        return self.seal(made)

    def tick(self, record: Record, envelope: Envelope, clock: Clock) -> list[Out]:
        """The way of time: 1 the lane's clock, 2 every timer that is due, 3 the clock of the next rank."""
        name = str(self.partition)
        lane = self.rows.lane(name)
        heard = lane.heard(clock)
        # 1. Nothing moves until the slowest origin has moved.
        self.rows.put_lane(name, heard)
        self.times.clear()
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
            at = At(plan, True, key, entity_key(entity, key).encode())
            outs += self.fire_one(at, record, envelope, ripe[1])
        for entry in later:
            self.timers.add(*entry)
        return outs

    def fire_one(self, at: At, record: Record, envelope: Envelope, name: str) -> list[Out]:
        """Fire one timer of one row; one that fails is gone, and its bytes are in quarantine."""
        before = self.rows.at(at.plan.name, at.row_key)
        timer = before.timers[name]
        self.tally["timer", timer.kind] += 1
        held = self.hold(at)
        refusal: Refusal | None = None
        try:
            row, made = deciding.on_timer(self.looking(at, record, envelope), before, name, self.models)
        except UserCodeError as error:
            refusal = Refusal(error.reason, error.function, str(error))
        else:
            self.store(at, before, row, fired=True)
            outs = self.seal(made)
            if not self.careful or (refusal := self.too_large(at, outs)) is None:
                return outs
        self.let_go(at, held)
        gone = decision.after_firing(at.plan.decision(timer.decision).rules, before, name)
        self.store(at, before, gone, fired=True)
        part = f"{at.plan.name}:{at.key}:{name}"
        return [self.refuse(record, refusal, part, timer.model_dump_json().encode())]

    def now_ms(self, plan: EntityPlan) -> int | None:
        """How far time has come for `plan`; None when only the events themselves tell (no tick was needed yet).

        In playback the first clock may still be on its way while one source has run far ahead: until it has come
        it is as early as can be, so that nothing is thought to be over.
        """
        if plan.rank not in self.times:
            heard_ms = self.rows.lane(str(self.partition)).time_ms(plan.rank)
            self.times[plan.rank] = 0 if heard_ms is None and self.playback else heard_ms
        return self.times[plan.rank]

    def store(self, at: At, before: AnyRow, row: AnyRow, fired: bool = False) -> None:
        """Keep `row` for the end of the batch; note when its next timer is due, if that is news or was just taken."""
        self.rows.put_at(at.plan.name, at.row_key, row)
        if row.timers and (fired or row.timers is not before.timers):
            due_ms = row.next_due_ms()
            if due_ms is not None and (fired or due_ms != before.next_due_ms()):
                self.timers.add(due_ms, at.plan.name, at.key)

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

    def refuse(self, record: Record, refusal: Refusal, part: str = "", value: bytes | None = None) -> Out:
        """Quarantine one record of `events`, or the timer `part` of a row whose bytes are `value`."""
        self.tally["quarantined", refusal.reason.value] += 1
        return records.refused(record, topic_name(self.plan, EVENTS), self.partition, refusal, part, value)


def linked_to(plan: EntityPlan) -> Callable[[bytes], Linked]:
    """The reader of links for entity `plan`: only of relations that it holds."""

    def read(body: bytes) -> Linked:
        linked = Linked.model_validate_json(body)
        if linked.link not in plan.rules.links_in:
            raise ValueError(f"{plan.name} holds no relation {linked.link!r}")
        return linked

    return read


def foreign(record: Record, error: Exception) -> Refusal:
    """The refusal of a record that no lane of this pipeline wrote."""
    detail = f"{type(error).__name__}: {error}"
    if isinstance(error, KeyError) and isinstance(error.args[0], tuple):
        detail = "{} does not hear {!r}".format(*error.args[0])
    return Refusal(Reason.FOREIGN_RECORD, detail=detail)


def lane_key(partition: int) -> bytes:
    """The row key of the lane itself."""
    return entity_key(ENTITY, str(partition)).encode()
