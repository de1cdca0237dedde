"""From real topics to the file: at a cut, incrementally, whatever is killed, deleted or made anew in between."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from aiokafka import AIOKafkaProducer
from pydantic_core import to_json

from examples.flights import Flight, flights
from examples.flights_feed import feed
from examples.flights_oracle import oracle
from schemas.keys import partition_of
from schemas.record import Given, Out
from schemas.row import Row
from schemas.times import from_ms
from streams import kafka as door
from streams import projector, topics
from streams.broker import Broker
from streams.cluster import NoTopicError
from streams.memory import Memory, passed
from streams.plan import Plan, compile_plan
from streams.projector import Pass, follow, project, source
from streams.settings import KafkaSettings
from tables.snapshot import Cut, Snapshot
from tables.snapshot_tables import tables
from tests.support.rows import drain
from tests.support.shop import Order, shop
from tests.support.workers import create, unique

# What follows is ended by a cancellation, wherever it stands.
pytestmark = [pytest.mark.broker, pytest.mark.cancels]
ROOT = Path(__file__).parents[2]
PARTITIONS = 3


@dataclass
class Site:
    """A pipeline's topics, and where its snapshot is."""

    kafka: KafkaSettings
    plan: Plan
    folder: Path

    @property
    def clients(self) -> dict[str, Any]:
        return self.kafka.client_options()

    @property
    def out(self) -> Path:
        return self.folder / "out.duckdb"

    @property
    def working(self) -> Path:
        return self.folder / "out.duckdb.work"

    async def project(self) -> Pass:
        return await project(self.clients, self.plan, self.working, self.out)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.out), read_only=True) as db:
            db.execute("SET TimeZone = 'UTC'")
            return db.execute(query).fetchall()

    @asynccontextmanager
    async def writing(self, *, commit: bool = True) -> AsyncIterator[AIOKafkaProducer]:
        """A transaction that is committed, or aborted, at the end."""
        name = f"{self.plan.name}-{time.monotonic_ns()}"
        producer = AIOKafkaProducer(**self.clients, transactional_id=name, linger_ms=5)
        await producer.start()
        try:
            await producer.begin_transaction()
            yield producer
            await (producer.commit_transaction() if commit else producer.abort_transaction())
        finally:
            await producer.stop()

    async def send(self, producer: AIOKafkaProducer, outs: Iterable[Out]) -> None:
        """Append `outs` to their topics, each on the partition of its key."""
        sent = [
            await producer.send(
                topics.topic_name(self.plan, out.topic),
                out.value,
                key=out.key,
                headers=out.headers,
                # The audit chain of the one lane of `Memory` stays together.
                partition=0 if out.topic == topics.AUDIT else partition_of(out.key or b"", PARTITIONS),
            )
            for out in outs
        ]
        await asyncio.gather(*sent)

    async def write(self, *outs: Out, commit: bool = True) -> None:
        """Append `outs` in a transaction of their own."""
        async with self.writing(commit=commit) as producer:
            await self.send(producer, outs)


@pytest.fixture
async def site(kafka: KafkaSettings, tmp_path: Path) -> Site:
    plan = await create(kafka, shop(unique("snap")), PARTITIONS)
    return Site(kafka, plan, tmp_path)


def order(key: str, version: int = 1, amount: int = 0) -> Out:
    """A row of the shop's orders for its changelog."""
    row = Row[Order](state=Order(amount=amount), version=version)
    return Out("order.changelog", f"order:{key}".encode(), to_json(row))


def decision(name: str) -> Out:
    """A record for `decisions`; only what the table requires."""
    return Out("decisions", b"order:a", to_json({"decision_id": name, "decision": "refund"}))


# --- the whole --------------------------------------------------------------------------------------------------


def blizzard() -> Memory:
    """The flights of the default days, run in memory."""
    memory, clock, step = Memory(flights), 0, 30 * 60 * 1000
    for number, record in enumerate(feed(date(2013, 2, 7), date(2013, 2, 10))):
        if record.play_ms // step * step > clock:
            clock = record.play_ms // step * step
            memory.send([passed(from_ms(clock))])
        memory.send([Given("raw", 0, number, record.time_ms, record.key, record.value, record.headers)])
    memory.send([passed(from_ms(clock + 8 * step))])
    return memory


@pytest.mark.timeout(180)
async def test_a_blizzard_is_in_the_file_as_the_oracle_says(kafka: KafkaSettings, tmp_path: Path) -> None:
    memory = blizzard()
    plan = replace(compile_plan(flights), name=unique("flights"))
    await door.create_topics(kafka.client_options(), plan.name, topics.topics(plan), PARTITIONS, 1)
    site = Site(kafka, plan, tmp_path)
    rows = [Out(topics.changelog(row.entity), row.key, row.value) for row in drain(memory.lane.rows)]
    kept = [out for role in source(plan).topics for out in memory.records[role]] + rows
    await site.write(*kept[:2000], commit=False)
    for start in range(0, len(kept), 5000):
        await site.write(*kept[start : start + 5000])

    done = await site.project()

    truth = oracle(date(2013, 2, 7), date(2013, 2, 10))
    assert done.records == len([out for out in kept if not (out.key or b"").startswith(b"lane:")]) + len(
        memory.audit
    )
    statuses = dict(site.ask("SELECT status, count(*) FROM flight GROUP BY status"))
    assert statuses == {status: count for status, count in truth.flights_by_status.items() if count}
    acted = dict(site.ask("SELECT action, count(*) FROM actions GROUP BY action"))
    proposed = dict(site.ask("SELECT action, count(*) FROM reviews GROUP BY action"))
    assert acted | proposed == truth.totals()
    found = site.ask(
        """
        SELECT action, coalesce(input->>'flight_id', input->>'airport'), strftime(as_of, '%Y-%m-%dT%H:%M:%SZ')
        FROM actions
        UNION ALL
        SELECT action, context->>'next_flight_id', strftime(as_of, '%Y-%m-%dT%H:%M:%SZ') FROM reviews
        """
    )
    assert Counter(found) == Counter((one.rule, one.subject, one.as_of) for one in truth.findings)
    check_rows(site, memory)
    check_logs(site, memory)


def check_rows(site: Site, memory: Memory) -> None:
    """Every flight has the state that the lane has."""
    names = list(Flight.model_fields)
    instants = [name for name in names if name.endswith(("_departure", "_arrival", "_at"))]
    columns = ", ".join(f"epoch_ms({name})" if name in instants else name for name in names)
    found = {key: values for key, *values in site.ask(f"SELECT key, {columns} FROM flight")}
    for key, values in found.items():
        state = memory.row("flight", key).state
        expected = [getattr(state, name) for name in names]
        assert [
            int(value.timestamp() * 1000) if isinstance(value, datetime) else value for value in expected
        ] == values
    (admitted,) = site.ask(
        "SELECT sum(admitted) FROM (SELECT admitted FROM flight UNION ALL SELECT admitted FROM airport)"
    )[0]
    assert admitted == 9533


def check_logs(site: Site, memory: Memory) -> None:
    """Every record of the lane is in its table once, in words that join."""
    counts = dict(site.ask("SELECT 'decisions', count(DISTINCT decision_id) FROM decisions"))
    assert counts["decisions"] == site.ask("SELECT count(*) FROM decisions")[0][0] == len(memory.decisions)
    assert site.ask("SELECT count(*) FROM actions ANTI JOIN decisions USING (decision_id)") == [(0,)]
    assert Counter(site.ask("SELECT review_id, status FROM reviews")) == Counter(
        (review.review_id, review.status) for review in memory.reviews
    )
    chain = site.ask("SELECT previous_hash, hash FROM audit ORDER BY sequence")
    assert chain == [(record.previous_hash, record.hash) for record in memory.audit]
    # The changes of a field end at the value in the row.
    assert site.ask(
        """
        SELECT count(*) FROM (SELECT key, max_by(new->>'$', version) AS last FROM changes
                              WHERE changed AND entity = 'flight' AND field = 'status' GROUP BY key)
        JOIN flight USING (key) WHERE status <> last
        """
    ) == [(0,)]
    # And as of the end of time every row is what it is now.
    now, end = "SELECT key, status, tail, departure_delay_min FROM", "flight_as_of(TIMESTAMPTZ '2100-01-01')"
    assert site.ask(f"{now} {end} EXCEPT {now} flight") == []


def test_every_topic_is_read_but_those_that_others_retell() -> None:
    plan = compile_plan(shop("roles"))
    read = source(plan)
    assert set(read.topics) == {table.role for table in tables(read.states)}
    untold = {topic.role for topic in topics.topics(plan)} - set(read.topics)
    assert untold == {topics.RAW, topics.EVENTS, "lane.changelog"}


# --- the cut ----------------------------------------------------------------------------------------------------


async def test_what_is_not_committed_is_not_there_until_it_is(site: Site) -> None:
    await site.write(decision("d1"))
    await site.write(decision("aborted"), commit=False)
    async with site.writing() as producer:
        await site.send(producer, [decision("d2"), order("a")])
        before = await site.project()
        assert before.records == 1
        assert site.ask("SELECT decision_id FROM decisions") == [("d1",)]
    after = await site.project()
    assert after.records == 2
    assert site.ask("SELECT decision_id FROM decisions ORDER BY 1") == [("d1",), ("d2",)]
    assert site.ask('SELECT key FROM "order"') == [("a",)]


async def test_the_file_says_up_to_where_it_has_read(site: Site) -> None:
    began = datetime.now(UTC)
    await site.write(decision("d1"), order("a"))
    await site.write(decision("d2"))
    done = await site.project()
    offsets = site.ask("SELECT topic, partition, next_offset FROM _offsets WHERE next_offset > 0 ORDER BY 1")
    key = partition_of(b"order:a", PARTITIONS)
    # Each transaction ends with a control record in every partition that it wrote to.
    name = site.plan.name
    assert offsets == [(f"{name}.decisions", key, 4), (f"{name}.order.changelog", key, 2)]
    count, cuts, clusters = site.ask(
        "SELECT count(*), count(DISTINCT cut_at), any_value(cluster_id) FROM _offsets"
    )[0]
    assert (count, cuts, clusters) == (len(source(site.plan).topics) * PARTITIONS, 1, done.cut.cluster)
    assert began <= done.cut.at <= datetime.now(UTC)


async def test_every_transaction_that_comes_meanwhile_is_in_all_tables_or_in_none(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.write(*(decision(f"d{i}") for i in range(200)), order("a", 200))
    monkeypatch.setattr(projector, "CHUNK_RECORDS", 20)
    enough = asyncio.Event()
    writer = asyncio.create_task(keep_writing(site, enough))
    for _ in range(12):
        done = await site.project()
        (rows,) = site.ask("SELECT count(*) FROM decisions")[0]
        assert site.ask("SELECT bool_and(aligned) FROM _offsets") == [(True,)]
        assert site.ask("""SELECT version FROM "order" WHERE key = 'a'""") == [(rows,)]
        # Rows and offsets are of one cut: a transaction writes ten decisions and its end.
        (after,) = site.ask("SELECT sum(next_offset) FROM _offsets WHERE topic LIKE '%.decisions'")[0]
        assert rows == done.rows["decisions"] == 200 + (after - 201) // 11 * 10
    enough.set()
    await writer
    assert site.ask("SELECT count(*) > 200 FROM decisions") == [(True,)]


async def keep_writing(site: Site, enough: asyncio.Event) -> None:
    """Ten decisions and their entity a transaction, until it is enough."""
    number = 200
    while not enough.is_set():
        number += 10
        await site.write(*(decision(f"d{number}.{i}") for i in range(10)), order("a", number))


async def test_a_lane_amid_a_transaction_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projector, "PATIENCE_S", 0.1)
    await site.write(decision("d1"))
    async with site.writing() as producer:
        await site.send(producer, [decision("d2")])
        done = await site.project()
    lane = partition_of(b"order:a", PARTITIONS)
    assert done.cut.torn == {lane}
    assert site.ask("SELECT DISTINCT partition FROM _offsets WHERE NOT aligned") == [(lane,)]
    assert (await site.project()).cut.torn == frozenset()


# --- one pass after another -----------------------------------------------------------------------------------------


async def test_a_second_pass_reads_what_is_new_and_replaces_what_it_must(site: Site) -> None:
    await site.write(order("a", 1, 10), order("b", 1, 20), order("c", 1, 30), decision("d1"))
    assert (await site.project()).records == 4
    await site.write(order("a", 2, 11), Out("order.changelog", b"order:b", None), decision("d2"))
    done = await site.project()
    assert (done.records, done.notes) == (3, [])
    assert site.ask('SELECT key, version, amount FROM "order" ORDER BY key') == [("a", 2, 11), ("c", 1, 30)]
    assert site.ask("SELECT decision_id FROM decisions ORDER BY 1") == [("d1",), ("d2",)]
    assert (await site.project()).records == 0


async def test_records_of_somebody_else_are_shown_and_do_no_harm(site: Site) -> None:
    await site.write(decision("d1"), Out("decisions", b"x", b"not one of ours"), decision("d2"))
    done = await site.project()
    assert (done.rows["decisions"], done.rows["_unreadable"]) == (2, 1)
    assert site.ask("SELECT key, value FROM _unreadable") == [("x", b"not one of ours")]


async def test_another_cluster_is_noticed_and_read_from_its_beginning(site: Site) -> None:
    await site.write(decision("d1"))
    snapshot = Snapshot(site.working, source(site.plan))
    topic = f"{site.plan.name}.decisions"
    foreign = Given(topic, 0, 0, 0, b"order:x", decision("elsewhere").value)
    snapshot.apply({topic: [foreign]}, {(topic, 0): 1}, Cut("another", datetime.now(UTC)))
    snapshot.close()
    done = await site.project()
    assert len(done.notes) == 1
    assert "the working file was made from cluster another" in done.notes[0]
    assert site.ask("SELECT decision_id FROM decisions") == [("d1",)]
    assert (await site.project()).notes == []


async def test_a_topic_that_was_made_anew_is_noticed_and_read_from_its_beginning(site: Site) -> None:
    await site.write(decision("d1"), order("a"))
    last = (await site.project()).cut
    snapshot = Snapshot(site.working, source(site.plan))
    topic = f"{site.plan.name}.decisions"
    snapshot.apply(
        {topic: [Given(topic, 0, 8, 0, b"order:x", decision("old").value)]}, {(topic, 0): 9_000}, last
    )
    snapshot.close()
    done = await site.project()
    assert done.notes == [f"{topic}: it was deleted or made anew; it was read anew"]
    assert site.ask("SELECT decision_id FROM decisions") == [("d1",)]
    assert site.ask('SELECT key FROM "order"') == [("a",)]


async def test_who_comes_back_after_a_long_time_misses_no_deletion(site: Site) -> None:
    await site.write(order("a"), decision("d1"))
    last = (await site.project()).cut
    # A row whose tombstone Kafka has dropped meanwhile: nothing in the topic tells that it is gone.
    snapshot = Snapshot(site.working, source(site.plan))
    topic = f"{site.plan.name}.order.changelog"
    gone = Given(topic, 0, 0, 0, b"order:gone", order("gone").value)
    snapshot.apply({topic: [gone]}, snapshot.offsets(), replace(last, at=last.at - timedelta(days=2)))
    snapshot.close()
    done = await site.project()
    assert [note.partition(":")[0] for note in done.notes] == ["the last pass was long ago"]
    assert site.ask('SELECT key FROM "order"') == [("a",)]
    assert site.ask("SELECT decision_id FROM decisions") == [("d1",)]


async def test_an_entity_with_a_new_field_is_read_anew(site: Site) -> None:
    await site.write(order("a", amount=5), decision("d1"))
    await site.project()

    class Wider(Order):
        colour: str = "none"

    entities = dict(site.plan.entities) | {"order": replace(site.plan.entities["order"], state=Wider)}
    site.plan = replace(site.plan, entities=entities)
    done = await site.project()
    assert done.notes == ["order: its columns have changed; it was read anew"]
    assert done.records == 1
    assert site.ask('SELECT key, amount, colour FROM "order"') == [("a", 5, None)]


async def test_a_pipeline_without_topics_is_told_so(kafka: KafkaSettings, tmp_path: Path) -> None:
    site = Site(kafka, compile_plan(shop(unique("absent"))), tmp_path)
    with pytest.raises(NoTopicError, match=r"no topic absent-.*Create"):
        await site.project()
    assert not site.out.exists()


# --- killed -----------------------------------------------------------------------------------------------------

SCRIPT = """
import asyncio, sys
from pathlib import Path
from streams import projector
from streams.plan import compile_plan
from tests.support.shop import Order, shop
projector.CHUNK_RECORDS = 400
bootstrap, name, working, out = sys.argv[1:]
asyncio.run(projector.project(
    {"bootstrap_servers": bootstrap}, compile_plan(shop(name)), Path(working), Path(out),
    lambda done, total: print(done, total, flush=True),
))
print("published", flush=True)
"""


def started(arguments: list[str]) -> subprocess.Popen[str]:
    """A projector in a process of its own; it prints a line for each chunk."""
    command = [sys.executable, "-c", SCRIPT, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def lines_of(child: subprocess.Popen[str]) -> Iterator[str]:
    assert child.stdout is not None
    return iter(child.stdout.readline, "")


@pytest.mark.timeout(180)
async def test_a_projector_killed_anywhere_ends_with_the_same_file(site: Site) -> None:
    for start in range(0, 24_000, 4000):
        numbers = range(start, start + 4000)
        await site.write(
            *(order(str(i % 700), i, i) for i in numbers),
            *(decision(f"d{i}") for i in numbers),
        )
        tombstones = (
            Out("order.changelog", f"order:{i}".encode(), None) for i in range(start // 4000, 700, 50)
        )
        await site.write(*tombstones)
    kills, published = 0, False
    arguments = [str(site.kafka.bootstrap), site.plan.name, str(site.working), str(site.out)]
    for read_lines in (1, 5, 9, 2, 14, 6):
        child = started(arguments)
        for seen, line in enumerate(lines_of(child), start=1):
            published |= line == "published\n"
            if seen == read_lines:
                break
        child.kill()
        child.communicate()
        kills += 1
        assert site.out.exists() <= published
    assert kills == 6
    done = await site.project()
    fresh = replace(site, folder=site.folder / "fresh")
    fresh.folder.mkdir()
    whole = await fresh.project()
    assert 0 < done.records < whole.records
    assert done.rows == whole.rows
    with duckdb.connect() as db:
        db.execute(f"ATTACH '{site.out}' AS a (READ_ONLY)")
        db.execute(f"ATTACH '{fresh.out}' AS b (READ_ONLY)")
        for name in ("order", "decisions", "_columns"):
            for one, other in (("a", "b"), ("b", "a")):
                query = f'SELECT count(*) FROM (FROM {one}."{name}" EXCEPT ALL FROM {other}."{name}")'
                assert db.execute(query).fetchall() == [(0,)], name
    assert site.ask("SELECT count(*), count(DISTINCT decision_id) FROM decisions") == [(24_000, 24_000)]


# --- again and again --------------------------------------------------------------------------------------------


class Following:
    """`follow` as a task, and what it tells."""

    def __init__(self, site: Site) -> None:
        self.passes: asyncio.Queue[Pass] = asyncio.Queue()
        self.troubles: asyncio.Queue[str] = asyncio.Queue()
        told = (self.passes.put_nowait, self.troubles.put_nowait)
        self.task = asyncio.create_task(
            follow(site.clients, site.plan, site.working, site.out, 0.1, *told), name="follow"
        )

    async def next(self) -> Pass:
        """The next pass."""
        return await asyncio.wait_for(self.passes.get(), 30)

    async def published(self) -> Pass:
        """The next pass that publishes."""
        while not (done := await self.next()).published:
            pass
        return done

    async def end(self) -> None:
        """End it as Ctrl-C does."""
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


async def test_following_publishes_what_is_new_and_ends_cleanly(site: Site) -> None:
    await site.write(decision("d1"))
    following = Following(site)
    assert (await following.next()).published
    file = site.out.stat().st_ino
    assert not (await following.next()).published
    assert site.out.stat().st_ino == file
    await site.write(decision("d2"))
    assert (await following.published()).records == 1
    assert site.ask("SELECT decision_id FROM decisions ORDER BY 1") == [("d1",), ("d2",)]
    site.out.unlink()
    assert (await following.published()).records == 0
    assert site.ask("SELECT count(*) FROM decisions") == [(2,)]
    await following.end()
    assert following.troubles.empty()
    assert {path.name for path in site.folder.iterdir()} == {"out.duckdb", "out.duckdb.work"}
    assert (await site.project()).records == 0


async def test_a_pass_can_be_cancelled_at_any_moment(site: Site) -> None:
    await site.write(*(decision(f"d{i}") for i in range(3000)), *(order(str(i)) for i in range(3000)))
    for pause_s in (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4):
        task = asyncio.create_task(site.project())
        await asyncio.sleep(pause_s)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert not list(site.folder.glob("*.tmp*"))
    done = await site.project()
    assert (done.rows["decisions"], done.rows["order"]) == (3000, 3000)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.xdist_group("brokers")
async def test_following_outlives_a_broker_that_goes_away(tmp_path: Path) -> None:
    broker = Broker(tmp_path / "kafka")
    await asyncio.to_thread(broker.start, attached=True)
    try:
        plan = await create(broker.settings(), shop("away"), PARTITIONS)
        site = Site(broker.settings(), plan, tmp_path)
        await site.write(decision("d1"))
        following = Following(site)
        await following.next()
        await asyncio.to_thread(broker.stop)
        assert await asyncio.wait_for(following.troubles.get(), 90)
        await asyncio.to_thread(broker.start, attached=True)
        await site.write(decision("d2"))
        while (await following.published()).rows["decisions"] < 2:
            pass
        await following.end()
        assert site.ask("SELECT decision_id FROM decisions ORDER BY 1") == [("d1",), ("d2",)]
    finally:
        await asyncio.to_thread(broker.stop)
