"""What a pipeline left behind, seen from outside: topics by librdkafka and databases come in, violations go out.

Nothing here raises for what Midstream did wrong: it is counted, named by the invariant that it breaks, and returned.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from struct import Struct
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from rocksdict import AccessType, Options, Rdict

from streams.settings import KafkaSettings
from tables.store import OFFSET, ROW
from tests.chaos.books import Books, Entry, Refused
from tests.support.topics import Got, consumer, ends

ROLES = (
    *("raw", "events", "quarantine", "account.changelog", "branch.changelog", "lane.changelog", "changes"),
    *("decisions", "reviews", "actions", "audit"),
)
STATE_FIELDS = {"account": ("balance", "moves", "flags"), "branch": ("total", "moves")}
# Of one kind of violation so many are told one by one.
SHOWN = 5
READ_S = 60.0


@dataclass
class Findings:
    """What a check found."""

    records_checked: int = 0
    duplicates: int = 0
    losses: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, invariant: int, what: str, cases: Iterable[object] = ()) -> int:
        """Note one violation with its first cases; returns how many cases there are. None: nothing to note."""
        found = list(cases)
        if found:
            shown = ", ".join(str(case) for case in found[:SHOWN])
            more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            self.violations.append(f"{invariant}. {what}: {shown}{more}")
        return len(found)

    def merge(self, other: "Findings") -> None:
        """Add another check's findings."""
        self.records_checked += other.records_checked
        self.duplicates += other.duplicates
        self.losses += other.losses
        self.violations += other.violations


def read_all(kafka: KafkaSettings, names: Iterable[str]) -> dict[str, list[Got]]:
    """Topic → everything that is committed on it, partition by partition in order."""
    wanted = list(names)
    reader = consumer(kafka)
    found: dict[str, list[Got]] = {name: [] for name in wanted}
    try:
        topics = reader.list_topics(timeout=10).topics
        places = [
            TopicPartition(name, number, OFFSET_BEGINNING)
            for name in wanted
            for number in topics[name].partitions
        ]
        reader.assign(places)
        left = {(place.topic, place.partition) for place in places}
        deadline = time.monotonic() + READ_S
        while left:
            assert time.monotonic() < deadline, (
                f"cannot be read to the end within {READ_S:g} s: {sorted(left)}"
            )
            for message in reader.consume(10_000, timeout=0.1):
                error = message.error()
                if error is None:
                    found[message.topic() or ""].append(got(message))
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard((message.topic() or "", message.partition() or 0))
                else:
                    raise KafkaException(error)
    finally:
        reader.close()
    return {name: sorted(records, key=lambda record: record[:2]) for name, records in found.items()}


def got(message: Any) -> Got:
    """librdkafka's message as a tuple."""
    return Got(message.partition(), message.offset(), message.key(), message.value(), message.headers() or [])


def check(kafka: KafkaSettings, pipeline: str) -> Findings:
    """Hold every topic of an idle pipeline against a fold of its raw log."""
    topics = {role: f"{pipeline}.{role}" for role in ROLES}
    read = read_all(kafka, topics.values())
    by_role = {role: read[name] for role, name in topics.items()}
    findings = Findings(records_checked=sum(len(records) for records in read.values()))
    books = Books(pipeline).enter(by_role["raw"])
    check_keys(findings, books, by_role)
    check_rows(findings, books, by_role)
    check_flow(findings, books, by_role)
    check_audit(findings, by_role["audit"])
    check_transactions(findings, kafka, topics.values())
    return findings


def changelogs() -> list[str]:
    """The roles of the changelog topics."""
    return [role for role in ROLES if role.endswith(".changelog")]


def check_keys(findings: Findings, books: Books, read: Mapping[str, list[Got]]) -> None:
    """1: every decision and action key once, and just those of the fold."""
    found = {
        "action": Counter((record.key or b"").decode() for record in read["actions"]),
        "decision": Counter(json.loads(record.value or b"")["decision_id"] for record in read["decisions"]),
    }
    for what, wanted in (("action", books.actions), ("decision", books.decisions)):
        keys = found[what]
        findings.duplicates += findings.add(
            1, f"{what} keys more than once", (key for key in keys if keys[key] > 1)
        )
        findings.losses += findings.add(1, f"{what} keys missing", sorted(wanted - keys.keys()))
        findings.add(1, f"{what} keys that the log does not give", sorted(keys.keys() - wanted))


def check_rows(findings: Findings, books: Books, read: Mapping[str, list[Got]]) -> None:
    """2: the last changelog row of each key is the fold; and every version is on `changes`, once."""
    last = {
        (record.key or b"").decode(): json.loads(record.value or b"null")
        for entity in STATE_FIELDS
        for record in read[f"{entity}.changelog"]
    }
    rows = {key: seen_of(key, row) for key, row in last.items()}
    wanted = {key: wanted_of(key, entry) for key, entry in books.rows.items()}
    wrong = [
        f"{key} is {rows.get(key)}, not {wanted.get(key)}"
        for key in sorted(rows.keys() | wanted.keys())
        if rows.get(key) != wanted.get(key)
    ]
    findings.add(2, "rows that are not the fold", wrong)
    findings.add(
        2, "rows with timers that never fired", (key for key, row in last.items() if row.get("timers"))
    )
    changes: dict[str, list[int]] = defaultdict(list)
    for record in read["changes"]:
        changes[(record.key or b"").decode()].append(json.loads(record.value or b"")["version"])
    wrong = [
        f"{key}: {len(changes[key])} changes, {entry.version} versions"
        for key, entry in books.rows.items()
        if changes[key] != list(range(1, entry.version + 1))
    ]
    findings.add(2, "versions that are not on changes once and in order", wrong)


def seen_of(key: str, row: Mapping[str, Any]) -> tuple[object, ...]:
    """What is compared of a row."""
    fields = STATE_FIELDS[key.partition(":")[0]]
    state = tuple(row["state"].get(name, 0) for name in fields)
    return *state, row["version"], row.get("admitted", 0), row.get("duplicates", 0)


def wanted_of(key: str, entry: Entry) -> tuple[object, ...]:
    """The same of the fold."""
    state = tuple(entry.state[name] for name in STATE_FIELDS[key.partition(":")[0]])
    return *state, entry.version, entry.admitted, entry.duplicates


def check_flow(findings: Findings, books: Books, read: Mapping[str, list[Got]]) -> None:
    """3: every raw record ends as an event, a duplicate (which is one, too) or in quarantine, and just once."""
    events = Counter(
        ((record.key or b"").decode(), dict(record.headers)["ce_id"].decode())
        for record in read["events"]
        if record.key != b"clock"
    )
    findings.duplicates += findings.add(3, "events too often", (events - books.events).elements())
    findings.losses += findings.add(3, "events missing", (books.events - events).elements())
    refused = Counter(
        Refused(
            record.why["topic"].rpartition(".")[2],
            dict(record.original)["ce_id"].decode(),
            record.why["reason"],
        )
        for record in read["quarantine"]
    )
    findings.duplicates += findings.add(3, "quarantined too often", (refused - books.refused).elements())
    findings.losses += findings.add(3, "missing in quarantine", (books.refused - refused).elements())


def check_audit(findings: Findings, audit: Iterable[Got]) -> None:
    """1: each lane's audit chain is whole: numbers without a gap, each record sealed, each naming the one before."""
    heads: dict[int, tuple[int, str]] = defaultdict(lambda: (0, ""))
    broken = []
    for record in audit:
        value, body = record.value or b"", json.loads(record.value or b"")
        sequence, previous = heads[record.partition]
        # The hash is the last field, over the JSON without it.
        seal = sha256(value[: value.rindex(b',"hash":')] + b"}").hexdigest()
        if (body["sequence"], body["previous_hash"], body["hash"]) != (sequence, previous, seal):
            broken.append(f"partition {record.partition} offset {record.offset}: {body['sequence']}")
        heads[record.partition] = body["sequence"] + 1, body["hash"]
    findings.add(1, "broken audit chains", broken)


def check_transactions(findings: Findings, kafka: KafkaSettings, names: Iterable[str]) -> None:
    """5: nothing holds a reader back: the last stable offset is the end."""
    open_ = [name for name in names if ends(kafka, name) != ends(kafka, name, committed=False)]
    findings.add(5, "transactions left open", open_)


def check_databases(pipeline: str, home: Path, changelog: Mapping[str, list[Got]]) -> Findings:
    """2: every local database is the committed prefix of its changelogs up to the offsets that stand in it."""
    findings = Findings()
    for folder in sorted(home.glob(f"**/{pipeline}/events-*")):
        partition = int(folder.name.rpartition("-")[2])
        try:
            stored, rows = database(folder)
        except Exception as error:  # noqa: BLE001 - rocksdict raises it bare
            findings.add(
                2,
                "databases that cannot be read",
                [f"{folder.parent.parent.parent.name}/{folder.name}: {error}"],
            )
            continue
        prefix = {
            record.key: record.value
            for topic, records in changelog.items()
            for record in records
            if record.partition == partition and record.offset < stored.get(topic, 0)
        }
        findings.records_checked += len(rows)
        wrong = [key for key in rows.keys() | prefix.keys() if rows.get(key or b"") != prefix.get(key)]
        what = (
            f"rows of {folder.relative_to(home)} that are not the changelog up to {sorted(stored.values())}"
        )
        findings.add(2, what, wrong)
    return findings


def database(folder: Path) -> tuple[dict[str, int], dict[bytes, bytes]]:
    """The changelog offsets and the rows of a lane's database, which is left as it is."""
    stored: dict[str, int] = {}
    rows: dict[bytes, bytes] = {}
    if not (folder / "CURRENT").exists():
        # Killed while it was being made: nothing is in it.
        return stored, rows
    opened = Rdict(str(folder), Options(raw_mode=True), access_type=AccessType.read_only())
    try:
        for key, value in pairs(opened):
            if key.startswith(OFFSET):
                stored[key[1:].decode()] = Struct(">q").unpack(value)[0]
            elif key.startswith(ROW):
                rows[key[1:]] = value
    finally:
        opened.close()
    return stored, rows


def pairs(opened: Rdict) -> Iterator[tuple[bytes, bytes]]:
    """Every key and value; unlike `Rdict.items` it tells when a block is damaged."""
    found = opened.iter()
    found.seek_to_first()
    while found.valid():
        key, value = found.key(), found.value()
        assert isinstance(key, bytes)
        yield key, value
        found.next()
    found.status()
