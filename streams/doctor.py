"""What keeps a pipeline from running: this machine, a cluster and perhaps a plan come in; findings with cures go out.

Every check is a function that returns its findings; none of them changes anything (the transaction that is tried is
aborted). A check whose ground is missing says nothing: without a broker there is no word about topics.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from streams import topics
from streams.cluster import Span, behind, brokers, group, held_back, spans, try_transaction
from streams.failures import told
from streams.inventory import TopicState, inventory, uneven
from streams.plan import Plan
from streams.settings import cache_home, home, load_settings
from streams.where import state_home

PYTHONS = ((3, 11), (3, 14))
GIB = 1 << 30
# Kafka alone wants 256 MiB to start; a log that cannot grow stops everything.
LITTLE_BYTES, FEW_BYTES = 5 * GIB, 1 * GIB
# Two looks so far apart tell what moves from what stands still: many times the duration of a transaction.
LOOK_S = 3.0
OLD_SNAPSHOT_S = 24 * 3600.0
UNREACHED = "Start it (midstream broker start), or set KAFKA_BOOTSTRAP to one that runs"

Outcome = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, how it is, and what to do if it is not well."""

    check: str
    outcome: Outcome
    about: str
    cure: str = ""


async def examine(
    plan: Plan | None, where: Callable[[], Mapping[str, Any]], snapshot: Path | None
) -> AsyncIterator[Finding]:
    """Every finding, from the machine to the pipeline.

    Args:
        plan: the pipeline; None leaves out what needs one.
        where: gives the clients' options, or raises what keeps it from doing so.
        snapshot: the pipeline's DuckDB file, if there should be one.
    """
    for finding in machine():
        yield finding
    try:
        for finding in embedded(needed=load_settings().bootstrap is None):
            yield finding
        clients = where()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        yield Finding("broker", "fail", one_line(error))
        return
    reached = True
    async for finding in attempts("broker", lambda: cluster(clients)):
        reached = finding.outcome != "fail"
        yield finding
    if not reached or plan is None:
        return
    async for finding in attempts("pipeline", lambda: pipeline(clients, plan)):
        yield finding
    if snapshot is not None:
        yield snapshot_age(snapshot)


async def attempts(check: str, look: Callable[[], Awaitable[list[Finding]]]) -> AsyncIterator[Finding]:
    """The findings of `look`, or the error that kept it from looking."""
    try:
        for finding in await look():
            yield finding
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        yield Finding(check, "fail", one_line(error).removesuffix(". See: midstream doctor"), UNREACHED)


def one_line(error: Exception) -> str:
    """What `error` says, as a command would say it."""
    known = told(error)
    return f"{type(error).__name__}: {' '.join(str(error).split())}" if known is None else known[1]


# --- this machine ------------------------------------------------------------------------------------------------


def machine() -> Iterator[Finding]:
    """Python, the pinned releases, and room for data."""
    yield python(sys.version_info[:2])
    yield pins()
    for name, folder in (("state", state_home()), ("broker data", home() / "broker")):
        yield room(name, folder)


def python(found: tuple[int, int]) -> Finding:
    """Whether this Python is one that Midstream is tested with."""
    first, after = PYTHONS
    if first <= found < after:
        return Finding("python", "ok", f"{found[0]}.{found[1]}")
    wanted = f"{first[0]}.{first[1]} to {after[0]}.{after[1] - 1}"
    return Finding(
        "python", "fail", f"{found[0]}.{found[1]}, not {wanted}", f"Make .venv with Python {wanted}"
    )


def pins() -> Finding:
    """Whether the releases whose internals the transport replaces are the ones it was written for."""
    try:
        # Looks at them when it is imported.
        from streams.transport import PINS
    except ImportError as error:
        return Finding("pins", "fail", one_line(error), "Install from the lock: make setup")
    return Finding("pins", "ok", ", ".join(f"{name} {version}" for name, version in PINS.items()))


def room(name: str, folder: Path) -> Finding:
    """How much the disk of `folder` has left."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free_bytes = shutil.disk_usage(there).free
    about = f"{free_bytes / GIB:.1f} GiB free for {name} in {folder}"
    if free_bytes < FEW_BYTES:
        return Finding("disk", "fail", about, "Make room, or put MIDSTREAM_HOME on another disk")
    if free_bytes < LITTLE_BYTES:
        return Finding("disk", "warn", about, "Make room before a long run")
    return Finding("disk", "ok", about)


def embedded(needed: bool) -> Iterator[Finding]:
    """Java and the jars of the embedded broker; where another broker is used, they are not missed."""
    from streams.embedded.java import JavaError, find_java
    from streams.embedded.kafka_jars import KAFKA_VERSION, SERVER_LOCK, read_lock

    without: Outcome = "fail" if needed else "ok"
    try:
        java = find_java()
        yield Finding("java", "ok", f"{java.version} ({java.source}: {java.path})")
    except JavaError as error:
        yield Finding(
            "java", without, str(error) if needed else "none, and none is needed: KAFKA_BOOTSTRAP is set"
        )
    folder = cache_home() / "kafka" / KAFKA_VERSION
    jars = read_lock(SERVER_LOCK)
    missing = sum(not (folder / jar.file_name).exists() for jar in jars)
    about = f"Kafka {KAFKA_VERSION} in {folder}: {len(jars) - missing} of {len(jars)}"
    if missing and needed:
        yield Finding("jars", "warn", about, "midstream broker start fetches what is missing")
    else:
        yield Finding("jars", "ok", about)


# --- the cluster -------------------------------------------------------------------------------------------------


async def cluster(clients: Mapping[str, Any]) -> list[Finding]:
    """Whether the brokers answer, and what they are."""
    found = await brokers(clients)
    size = "1 broker" if found.brokers == 1 else f"{found.brokers} brokers"
    about = (
        f"{clients['bootstrap_servers']}: {size}, Kafka {found.at_least} or newer, cluster {found.cluster_id}"
    )
    return [Finding("broker", "ok", about)]


async def pipeline(clients: Mapping[str, Any], plan: Plan) -> list[Finding]:
    """The pipeline's topics, transactions, and how far its group has come."""
    states = await inventory(clients, plan)
    found = topics_of(plan, states)
    if any(state.partitions == 0 for state in states):
        return found
    found.append(await transactions(clients, plan))
    found += await open_transactions(clients, states)
    return found + await lanes(clients, plan)


def topics_of(plan: Plan, states: list[TopicState]) -> list[Finding]:
    """Whether every topic is there with a partition count that fits."""
    missing = [state.name for state in states if state.partitions == 0]
    if missing:
        about = f"{len(missing)} of {len(states)} are missing: {', '.join(missing)}"
        return [Finding("topics", "fail", about, "midstream topics create PIPELINE")]
    wrong = uneven(states)
    if wrong:
        return [Finding("topics", "fail", wrong, "An entity's records must share a partition number")]
    events = next(state for state in states if state.role == topics.EVENTS)
    return [Finding("topics", "ok", f"{len(states)} of {plan.name}, {events.partitions} partitions")]


async def transactions(clients: Mapping[str, Any], plan: Plan) -> Finding:
    """Whether a transaction can be run through."""
    try:
        await try_transaction(clients, topics.topic_name(plan, topics.EVENTS), 0)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        cure = "Look at the brokers' log; transaction.state.log.replication.factor must fit their number"
        return Finding("transactions", "fail", one_line(error), cure)
    return Finding("transactions", "ok", "one was run through and aborted")


async def open_transactions(clients: Mapping[str, Any], states: list[TopicState]) -> list[Finding]:
    """Transactions that stay open between two looks: nobody can read past them."""
    where = [
        Span(state.name, number, first, last)
        for state in states
        for number, (first, last) in enumerate(zip(state.first, state.last, strict=True))
    ]
    before = await held_back(clients, where)
    if before:
        await asyncio.sleep(LOOK_S)
        ends = {
            (span.topic, span.partition): span.last
            for span in await spans(clients, sorted({t for t, _ in before}))
        }
        still = {(span.topic, span.partition): span.last for span in where}
        stuck = [place for place in before if ends[place] == still[place]]
        if stuck:
            names = ", ".join(f"{topic}/{number}" for topic, number in sorted(stuck))
            cure = "It ends by itself within a minute; if not: kafka-transactions.sh find-hanging, then abort"
            return [Finding("open transactions", "warn", f"readers wait at {names}", cure)]
    return [Finding("open transactions", "ok", "none that lasts")]


async def lanes(clients: Mapping[str, Any], plan: Plan) -> list[Finding]:
    """Whether somebody runs the pipeline, and whether every lane that has work moves."""
    sources = [topics.topic_name(plan, role) for role in (topics.RAW, topics.EVENTS)]
    now = await group(clients, plan.name)
    ends = {(span.topic, span.partition): span.first for span in await spans(clients, sources)}
    at = ends | {place: offset for place, offset in now.committed.items() if place in ends}
    late = await behind(clients, at)
    names = ", ".join(f"{topic}/{number}" for topic, number in sorted(late))
    if not now.members:
        about = "no worker runs" + (f"; records wait in {names}" if late else "; nothing waits")
        return [Finding("lanes", "warn", about, "midstream worker PIPELINE")]
    workers = "1 worker" if now.members == 1 else f"{now.members} workers"
    if not late:
        return [Finding("lanes", "ok", f"{workers}, everything is read")]
    await asyncio.sleep(LOOK_S)
    later = (await group(clients, plan.name)).committed
    stuck = sorted(place for place in late if later.get(place, at[place]) == at[place])
    still = await behind(clients, {place: at[place] for place in stuck})
    if still:
        names = ", ".join(f"{topic}/{number}" for topic, number in sorted(still))
        cure = "Look at the worker's log; a rebalance or a restore may take this long, otherwise restart it"
        return [Finding("lanes", "fail", f"{workers}, but no progress in {LOOK_S:g} s at {names}", cure)]
    return [Finding("lanes", "ok", f"{workers}, catching up at {names}")]


def snapshot_age(file: Path) -> Finding:
    """How old the snapshot is."""
    cure = "midstream snapshot PIPELINE"
    if not file.exists():
        return Finding("snapshot", "warn", f"no {file}", cure)
    age_s = max(0.0, time.time() - file.stat().st_mtime)
    about = f"{file}, {in_words(age_s)} old"
    return (
        Finding("snapshot", "warn", about, cure)
        if age_s > OLD_SNAPSHOT_S
        else Finding("snapshot", "ok", about)
    )


def in_words(seconds: float) -> str:
    """A duration in its largest unit."""
    for size_s, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size_s:
            return f"{seconds / size_s:.0f} {unit}"
    return f"{seconds:.0f} s"
