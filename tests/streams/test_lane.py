"""streams/lane.py on a real broker, without Faust: one batch, one transaction."""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from confluent_kafka import TopicPartition

from schemas.lane import WALL
from schemas.quarantine import read_quarantine
from schemas.record import Given, Out, Record
from schemas.times import to_ms
from streams import lane as module
from streams import topics
from streams.lane import Lane
from streams.memory import happened, run
from streams.metrics import Metrics
from streams.settings import KafkaSettings
from tables.store import Store
from tests.support.bank import START, Moved, moves
from tests.support.chunks import chunk
from tests.support.lanes import PARTITIONS, begin, ended, lane_config, made, now, standing
from tests.support.pages import Written, pages
from tests.support.shop import Paid, shop
from tests.support.topics import consumer, ends, publish

pytestmark = pytest.mark.broker


class DiedError(Exception):
    """What `die` says, instead of the end of the test."""


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines with which the process would have ended."""
    lines: list[str] = []

    def die(reason: str, error: BaseException | None = None, code: int = 70) -> NoReturn:
        lines.append(reason)
        raise DiedError(reason)

    monkeypatch.setattr(module, "die", die)
    return lines


async def until_dead(lines: list[str]) -> None:
    """Wait for the first of `lines`."""
    async with asyncio.timeout(30):
        while not lines:  # noqa: ASYNC110 - the end of a process tells nobody
            await asyncio.sleep(0.05)


@asynccontextmanager
async def opened(lane: Lane) -> AsyncIterator[Lane]:
    await begin(lane)
    try:
        yield lane
    except BaseException:
        # A failed test: let go without waiting for anything.
        assert lane._runner is not None
        lane._runner.cancel()
        await lane.producer.stop()
        raise
    await lane.close()


async def done(lane: Lane) -> None:
    """Wait until everything handed over is committed, and every partition knows."""
    async with asyncio.timeout(20):
        await lane.queue.join()
        await ended(lane.config.clients, lane.name)


def committed(kafka: KafkaSettings, lane: Lane) -> int:
    """The source offset that the group has committed."""
    # Read committed, librdkafka would wait for the end of the transaction.
    reader = consumer(kafka, group=lane.config.group, committed=False)
    try:
        return reader.committed([TopicPartition(lane.source.topic, lane.partition)], timeout=10)[0].offset
    finally:
        reader.close()


async def test_a_batch_is_one_transaction_with_its_offset(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = await made(kafka)
    lane = Lane(lane_config(kafka, name, tmp_path), topics.RAW, 0, Metrics())
    records = list(moves(300, duplicates=0))
    async with opened(lane):
        await lane.submit(chunk(standing(records, f"{name}.raw")))
        await done(lane)
        events = await now(kafka, f"{name}.events")
        assert Counter(got.key for got in events) == Counter(b"account:" + (r.key or b"") for r in records)
        assert await asyncio.to_thread(committed, kafka, lane) == 300
        # On each partition its records and one mark.
        assert sum((await asyncio.to_thread(ends, kafka, f"{name}.events")).values()) == 300 + PARTITIONS


async def test_records_go_where_any_client_looks_for_their_keys(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = await made(kafka)
    lane = Lane(lane_config(kafka, name, tmp_path), topics.RAW, 0, Metrics())
    async with opened(lane):
        await lane.submit(chunk(standing(moves(200, duplicates=0), f"{name}.raw")))
        await done(lane)
    ours = {got.key: got.partition for got in await now(kafka, f"{name}.events")}
    # librdkafka's murmur2, by the same keys on a topic of as many partitions.
    keys = [Given("", 0, 0, 0, key, b"x") for key in ours]
    await asyncio.to_thread(publish, kafka, f"{name}.changes", keys)
    assert {got.key: got.partition for got in await now(kafka, f"{name}.changes")} == ours


async def test_rows_reach_the_database_with_the_offset_of_their_changelog(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    name = await made(kafka)
    ingest = Lane(lane_config(kafka, name, tmp_path), topics.RAW, 0, Metrics())
    entity = Lane(lane_config(kafka, name, tmp_path), topics.EVENTS, 1, Metrics())
    records = list(moves(400))
    async with opened(ingest):
        await ingest.submit(chunk(standing(records, f"{name}.raw")))
        await done(ingest)
    events = [got for got in await now(kafka, f"{name}.events") if got.partition == 1]
    async with opened(entity):
        for begin in range(0, len(events), 70):
            await entity.submit(chunk(standing(events, f"{name}.events", 1)[begin : begin + 70]))
        await done(entity)
    store = Store(tmp_path / "events-1")
    stored, rows = store.offsets(), dict(store.rows())
    store.close()
    log = await now(kafka, f"{name}.account.changelog")
    assert {got.partition for got in log} == {1}
    assert rows == {got.key: got.value for got in log} | {b"lane:1": rows[b"lane:1"]}
    assert stored[f"{name}.account.changelog"] == log[-1].offset + 1
    assert await asyncio.to_thread(committed, kafka, entity) == len(events)


async def test_opening_again_goes_on_with_the_same_rows(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = await made(kafka)
    setting = lane_config(kafka, name, tmp_path)
    event = Moved(account="a", amount=5)
    facts = [
        Given("x", 0, n, 0, b"account:a", event.model_dump_json().encode(), headers_of(event, f"e{n}"))
        for n in range(3)
    ]
    for number, fact in enumerate(facts, start=1):
        async with opened(Lane(setting, topics.EVENTS, 0, Metrics())) as lane:
            await lane.submit(chunk([fact]))
            await done(lane)
            assert lane.rows is not None
            assert lane.rows.get("account", "a").state.model_dump() == {
                "balance": 5 * number,
                "moves": number,
            }


def headers_of(event: Moved | Paid, id: str, ms: int = 0) -> list[tuple[str, bytes]]:
    subject = f"account:{event.account}" if isinstance(event, Moved) else f"order:{event.order_id}"
    return [
        *((name, value) for name, value in happened(event, START, id).headers if name != "content-type"),
        ("ce_subject", subject.encode()),
        ("ms_ingested", b"%d" % ms),
    ]


async def test_nothing_is_visible_and_nothing_stored_before_the_commit(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    name = await made(kafka)
    lane = Lane(lane_config(kafka, name, tmp_path), topics.EVENTS, 0, Metrics())
    async with opened(lane):
        reached, go_on = asyncio.Event(), asyncio.Event()
        commit = lane.producer.commit_transaction

        async def held() -> None:
            reached.set()
            await go_on.wait()
            await commit()

        lane.producer.commit_transaction = held
        event = Moved(account="a", amount=10)
        fact = Given("x", 0, 7, 0, b"account:a", event.model_dump_json().encode(), headers_of(event, "e"))
        await lane.submit(chunk([fact]))
        await asyncio.wait_for(reached.wait(), 20)
        assert await now(kafka, f"{name}.actions") == []
        assert lane.store is not None
        assert (list(lane.store.rows()), lane.store.offsets()) == ([], {})
        assert lane.metrics.registry.get_sample_value("midstream_records_total", {"topic": "events"}) is None
        assert await asyncio.to_thread(committed, kafka, lane) < 0
        go_on.set()
        await done(lane)
        assert len(await now(kafka, f"{name}.actions")) == 1
        assert len(list(lane.store.rows())) == 2
        assert lane.metrics.registry.get_sample_value("midstream_records_total", {"topic": "events"}) == 1
        assert await asyncio.to_thread(committed, kafka, lane) == 8


class Fixed:
    """A stage that always says the same."""

    def __init__(self, outs: list[Out]) -> None:
        self.outs = outs
        self.tally: Counter[tuple[str, ...]] = Counter()
        self.careful = False

    def start_over(self, timers: Iterable[tuple[int, str, str]]) -> None:
        self.tally.clear()

    def step(self, record: Record) -> list[Out]:
        return self.outs


async def test_a_record_that_kafka_refuses_ends_the_process_without_a_commit(
    kafka: KafkaSettings, tmp_path: Path, deaths: list[str]
) -> None:
    name = await made(kafka)
    lane = Lane(lane_config(kafka, name, tmp_path), topics.RAW, 0, Metrics())
    await begin(lane)
    lane.stage = Fixed(
        [Out(topics.EVENTS, b"a", b"fine"), Out(topics.QUARANTINE, b"b", os.urandom(25 << 20))]
    )
    await lane.submit(chunk(standing(moves(1), f"{name}.raw")))
    await until_dead(deaths)
    assert deaths[0].startswith(f"lane {name}.raw.0: MessageSizeTooLargeError")
    assert await now(kafka, f"{name}.events") == []
    assert await asyncio.to_thread(committed, kafka, lane) < 0
    await lane.producer.stop()


async def test_an_event_that_makes_too_large_a_row_is_refused_and_the_rest_of_its_batch_is_not(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("streams.topics.MAX_OUT_BYTES", "streams.topology.MAX_OUT_BYTES"):
        monkeypatch.setattr(name, 4000)
    name = await made(kafka, pages)
    sizes = [10, 20, 5000, 30]
    records = [
        happened(Written(page="p1", text="t" * size), START, f"e{n}", key="p1")
        for n, size in enumerate(sizes)
    ]
    memory = run(pages(name), [record for record, size in zip(records, sizes, strict=True) if size < 4000])
    outs = run(pages(name), records).records[topics.EVENTS]
    facts = [Given(f"{name}.events", 0, n, 0, o.key, o.value, o.headers) for n, o in enumerate(outs)]
    async with opened(
        Lane(lane_config(kafka, name, tmp_path, pipeline=pages), topics.EVENTS, 0, Metrics())
    ) as lane:
        await lane.submit(chunk(facts[:2]))
        await lane.submit(chunk(facts[2:]))
        await done(lane)
        assert lane.rows is not None
        assert lane.rows.get("page", "p1") == memory.row("page", "p1")
        assert lane.metrics.registry.get_sample_value("midstream_events_total", {"type": "page.written"}) == 3
        assert await asyncio.to_thread(committed, kafka, lane) == 4
    (refused,) = await now(kafka, f"{name}.quarantine")
    assert refused.value == facts[2].value
    assert read_quarantine(refused.headers)["reason"] == "row_too_large"
    (*_, last) = await now(kafka, f"{name}.page.changelog")
    assert json.loads(last.value or b"")["state"] == {"text": "t" * 30, "versions": 3}


async def test_a_lane_that_was_fenced_ends_the_process_and_has_changed_nothing(
    kafka: KafkaSettings, tmp_path: Path, deaths: list[str]
) -> None:
    name = await made(kafka)
    old = Lane(lane_config(kafka, name, tmp_path / "old"), topics.EVENTS, 0, Metrics())
    await begin(old)
    event = Moved(account="a", amount=10)
    fact = Given("x", 0, 0, 0, b"account:a", event.model_dump_json().encode(), headers_of(event, "e"))
    async with opened(Lane(lane_config(kafka, name, tmp_path / "new"), topics.EVENTS, 0, Metrics())) as new:
        await old.submit(chunk([fact]))
        await until_dead(deaths)
        await old.producer.stop()
        assert deaths[0].startswith(f"lane {name}.events.0: ProducerFenced: ")
        assert await now(kafka, f"{name}.actions") == []
        assert old.store is not None
        assert list(old.store.rows()) == []
        await new.submit(chunk([fact]))
        await done(new)
        assert len(await now(kafka, f"{name}.actions")) == 1
    old.store.close()


async def test_a_batch_that_never_ends_is_said_so(
    kafka: KafkaSettings, tmp_path: Path, deaths: list[str]
) -> None:
    name = await made(kafka)
    lane = Lane(lane_config(kafka, name, tmp_path, stuck_s=0.5), topics.RAW, 0, Metrics())
    await begin(lane)

    async def never() -> None:
        await asyncio.Event().wait()

    lane.producer.commit_transaction = never
    await lane.submit(chunk(standing(moves(1), f"{name}.raw")))
    await until_dead(deaths)
    assert deaths == [f"lane {name}.raw.0: TimeoutError: a batch was not committed within 0.5 s"]
    await lane.producer.stop()


async def test_an_offset_that_comes_again_ends_the_process(
    kafka: KafkaSettings, tmp_path: Path, deaths: list[str]
) -> None:
    name = await made(kafka)
    async with opened(Lane(lane_config(kafka, name, tmp_path), topics.RAW, 0, Metrics())) as lane:
        batch = standing(moves(10, duplicates=0), f"{name}.raw")
        await lane.submit(chunk(batch))
        with pytest.raises(DiedError, match="offset 5 comes again, 10 was expected"):
            await lane.submit(chunk(batch[5:]))
        await done(lane)


async def test_closing_waits_for_what_was_handed_over(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = await made(kafka)
    lane = Lane(lane_config(kafka, name, tmp_path), topics.RAW, 0, Metrics())
    await begin(lane)
    records = standing(moves(900, duplicates=0), f"{name}.raw")

    async def hand_over() -> None:
        for first in range(0, 900, 300):
            await lane.submit(chunk(records[first : first + 300]))

    # One batch is in work, one waits in the queue, one in `submit`.
    handing = asyncio.create_task(hand_over())
    await asyncio.sleep(0)
    await lane.close()
    assert handing.done()
    assert len(await now(kafka, f"{name}.events")) == 900
    state = {"lane": lane.name, "state": "closed"}
    assert lane.metrics.registry.get_sample_value("midstream_lane_state", state) == 1


# The wall clock.


async def test_a_due_timer_is_told_once_and_fires_when_it_is_read_back(
    kafka: KafkaSettings, tmp_path: Path
) -> None:
    name = await made(kafka, shop)
    setting = lane_config(kafka, name, tmp_path, playback=False, pipeline=shop)
    paid = Paid(order_id="o1", customer_id="c1", amount=300)
    fact = Given("x", 0, 0, 0, b"customer:c1", paid.model_dump_json().encode(), headers_of(paid, "e"))
    async with opened(Lane(setting, topics.EVENTS, 0, Metrics())) as lane:
        await lane.submit(chunk([fact]))
        await done(lane)
        assert lane.timers is not None
        due_ms = lane.timers.next_due_ms() or 0
        assert due_ms > to_ms(START)
        await lane.tick(due_ms - 1)
        await done(lane)
        assert await now(kafka, f"{name}.events") == []
        await lane.tick(due_ms)
        await done(lane)
        # Until it has been read back it is on its way, and not told again.
        await lane.tick(due_ms + 1000)
        await done(lane)
        (tick,) = await now(kafka, f"{name}.events")
        assert (tick.partition, json.loads(tick.value or b"")["rank"]) == (0, WALL)
        await lane.submit(chunk([Given("x", 0, 1, 0, tick.key, tick.value, tick.headers)]))
        await done(lane)
        decided = [json.loads(got.value or b"")["at_ms"] for got in await now(kafka, f"{name}.decisions")]
        assert decided == [to_ms(START)]


async def test_timers_survive_their_database(kafka: KafkaSettings, tmp_path: Path) -> None:
    name = await made(kafka, shop)
    paid = Paid(order_id="o1", customer_id="c1", amount=300)
    fact = Given("x", 0, 0, 0, b"customer:c1", paid.model_dump_json().encode(), headers_of(paid, "e"))
    one = lane_config(kafka, name, tmp_path / "one", playback=False, pipeline=shop)
    async with opened(Lane(one, topics.EVENTS, 0, Metrics())) as lane:
        await lane.submit(chunk([fact]))
        await done(lane)
        assert lane.timers is not None
        due_ms = lane.timers.next_due_ms()
    other = lane_config(kafka, name, tmp_path / "other", playback=False, pipeline=shop)
    async with opened(Lane(other, topics.EVENTS, 0, Metrics())) as lane:
        assert lane.timers is not None
        assert lane.timers.next_due_ms() == due_ms is not None


# All lanes of a worker.


async def test_what_has_come_while_a_lane_was_busy_is_one_batch(
    kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 100)
    name = await made(kafka)
    records = standing(moves(60, duplicates=0), f"{name}.raw")
    polls = [replace(chunk(records[n : n + 10]), size_bytes=40) for n in range(0, 60, 10)]
    async with opened(Lane(lane_config(kafka, name, tmp_path), topics.RAW, 0, Metrics())) as lane:
        begin, go_on = lane.producer.begin_transaction, asyncio.Event()

        async def held() -> None:
            await go_on.wait()
            await begin()

        lane.producer.begin_transaction = held
        await lane.submit(polls[0])
        # It is taken at once; two more may wait, the third has to.
        await asyncio.sleep(0.1)
        await asyncio.wait_for(lane.submit(polls[1]), 1)
        await asyncio.wait_for(lane.submit(polls[2]), 1)
        third = asyncio.create_task(lane.submit(polls[3]))
        await asyncio.sleep(0.2)
        assert not third.done()
        go_on.set()
        await asyncio.wait_for(third, 10)
        for poll in polls[4:]:
            await lane.submit(poll)
        await done(lane)
        assert lane.waiting_bytes == 0
        batches = lane.metrics.registry.get_sample_value("midstream_batch_records_count", {"topic": "raw"})
        assert batches is not None
        assert batches < len(polls)
        assert await asyncio.to_thread(committed, kafka, lane) == 60
    assert len(await now(kafka, f"{name}.events")) == 60
