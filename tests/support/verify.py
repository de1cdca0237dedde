"""Load on a pipeline, and whether what it left on Kafka and on disk is exactly once and no less.

`Load` publishes moves in the background; `verify` holds every topic of the bank against an independent fold.
"""

import json
import threading
import time
from collections import Counter
from pathlib import Path

from confluent_kafka import Producer

from schemas.audit import AuditRecord, sealed
from schemas.record import Given
from streams import topics
from streams.memory import Memory
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from tables.store import Store
from tests.support.bank import Books, bank, moves
from tests.support.topics import Watcher, ends, murmur2_producer, read

STEP_S = 0.05


class Load:
    """Moves, published at a steady rate until `stop`."""

    def __init__(self, kafka: KafkaSettings, name: str, rate: int, duplicates: float = 0.05) -> None:
        """Publish about `rate` a second for pipeline `name`."""
        self.kafka, self.name, self.rate, self.duplicates = kafka, name, rate, duplicates
        self.records: list[Given] = []
        self._stop = threading.Event()
        self._failed: list[object] = []
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._producer: Producer = murmur2_producer(kafka)

    def start(self) -> "Load":
        """Begin."""
        self._thread.start()
        return self

    def _publish(self) -> None:
        number, step = 0, max(1, round(self.rate * STEP_S))
        while not self._stop.is_set():
            for record in moves(step, start=number, seed=number, duplicates=self.duplicates):
                self._producer.produce(
                    f"{self.name}.raw",
                    key=record.key,
                    value=record.value,
                    headers=list(record.headers),
                    on_delivery=lambda error, message: self._failed.append(error) if error else None,
                )
                self.records.append(record)
            self._producer.poll(0)
            number += step
            time.sleep(STEP_S)

    def stop(self) -> list[Given]:
        """End, and return all that was published."""
        self._stop.set()
        self._thread.join(30)
        left = self._producer.flush(60)
        assert (self._thread.is_alive(), left, self._failed) == (False, 0, [])
        return self.records


def wait_idle(kafka: KafkaSettings, name: str, within_s: float = 60.0) -> None:
    """Wait until the pipeline has read everything."""
    watcher = Watcher(kafka, name, f"{name}.raw", f"{name}.events")
    try:
        watcher.wait(within_s)
    finally:
        watcher.close()


def verify(kafka: KafkaSettings, name: str, records: list[Given]) -> None:
    """Hold all topics of the bank `name` against a fold of `records`, its raw records."""
    books = Books(name)
    books.enter(records)
    plan = compile_plan(bank(name))
    # 1. Every key once, and just those that there must be.
    actions = Counter((got.key or b"").decode() for got in read(kafka, f"{name}.actions"))
    assert [key for key, count in actions.items() if count > 1] == [], "action keys twice"
    assert set(actions) == books.actions
    decided = Counter(json.loads(got.value or b"")["decision_id"] for got in read(kafka, f"{name}.decisions"))
    assert [key for key, count in decided.items() if count > 1] == [], "decision keys twice"
    assert len(decided) == len(actions)
    # 2. Nothing is skipped: an event, a duplicate (which is one too, for its owner to recognise) or quarantine.
    assert len(read(kafka, f"{name}.events")) == len(records)
    assert read(kafka, f"{name}.quarantine") == []
    # 3. Rows: the last of each key is that of a run in memory, byte for byte.
    memory = Memory(bank(name))
    memory.send(records)
    expected = {row.key: row.value for row in memory.lane.rows.changed() if row.entity == "account"}
    rows = {got.key: got.value for got in read(kafka, f"{name}.account.changelog")}
    assert rows == expected
    balances = {(key or b"").decode()[8:]: json.loads(value or b"")["state"] for key, value in rows.items()}
    assert {key: state["balance"] for key, state in balances.items()} == dict(books.balances)
    assert {key: state["moves"] for key, state in balances.items()} == dict(books.moves)
    # 4. The audit chain of every lane is whole.
    chains: dict[int, list[AuditRecord]] = {}
    for got in read(kafka, f"{name}.audit"):
        chains.setdefault(got.partition, []).append(AuditRecord.model_validate_json(got.value or b""))
    for chain in chains.values():
        assert [record.sequence for record in chain] == list(range(len(chain)))
        assert [record.previous_hash for record in chain] == ["", *(record.hash for record in chain[:-1])]
        assert all(sealed(record).hash == record.hash for record in chain)
    # 5. No transaction hangs.
    for topic in topics.topics(plan):
        full = topics.topic_name(plan, topic.role)
        assert ends(kafka, full) == ends(kafka, full, committed=False), f"an open transaction on {full}"


def verify_databases(kafka: KafkaSettings, name: str, home: Path) -> int:
    """Hold every local database against the committed prefix of its changelogs; returns how many rows they hold."""
    plan = compile_plan(bank(name))
    changelogs = {
        topic: read(kafka, topic)
        for topic in (
            topics.topic_name(plan, topics.changelog(entity)) for entity in (*plan.entities, "lane")
        )
    }
    count = 0
    for folder in sorted(home.glob(f"**/{name}/{topics.EVENTS}-*")):
        partition = int(folder.name.rpartition("-")[2])
        store = Store(folder)
        stored = store.offsets()
        prefix = {
            got.key: got.value
            for topic, records in changelogs.items()
            for got in records
            if got.partition == partition and got.offset < stored.get(topic, 0)
        }
        rows = dict(store.rows())
        store.close()
        assert rows == prefix, f"{folder.name} is not the changelog up to {stored}"
        count += len(rows)
    return count
