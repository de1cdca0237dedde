"""`midstream demo`: real flights of 2013 through a real Kafka, watched while they play; then figures, queries, a file.

It starts a broker and a worker of its own, plays the days that are asked for, waits until every lane's clock has come
to the end, projects the topics into a DuckDB file and stops everything it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import duckdb
from cyclopts import App, Parameter
from rich.console import Console
from rich.live import Live

from examples.demo_view import Meter, Summary, how_to_read, show
from examples.flights import flights
from examples.flights_feed import FIRST_DAY, LAST_DAY, FeedRecord, feed
from streams import kafka, topics
from streams.local import PARTITIONS, Local, LocalError, arrived
from streams.metrics import total
from streams.plan import compile_plan
from streams.playback import Progress, play
from streams.projector import project
from streams.settings import home, load_settings
from streams.where import clients

app = App(name="demo")

DEFAULT_DAYS = (date(2013, 2, 7), date(2013, 2, 10))
# The default days in about twenty seconds.
DEFAULT_SPEED = 20_000.0
# Every decision waits half an hour or an hour of event time; a finer clock would only make more transactions.
CLOCK_STEP_MS = 3600 * 1000
REFRESH_S = 0.25
# A run without a terminal still says how far it is.
PLAIN_REFRESH_S = 5.0


@dataclass
class Choice:
    """What to play and how."""

    first: Annotated[date, Parameter(name="--from", help="First day.")] = DEFAULT_DAYS[0]
    last: Annotated[date, Parameter(name="--to", help="Last day; the default days are a blizzard.")] = (
        DEFAULT_DAYS[1]
    )
    everything: Annotated[
        bool, Parameter(name="--all", negative="", help="The whole year, as fast as it goes.")
    ] = False
    speed: Annotated[float, Parameter(help="Event seconds per second; 0: as fast as it goes.")] = (
        DEFAULT_SPEED
    )
    duplicates: Annotated[float, Parameter(help="Share of events that are sent twice.")] = 0.0
    displaced: Annotated[float, Parameter(help="Share of events up to twenty minutes late.")] = 0.0
    seed: Annotated[int, Parameter(help="Chooses which ones.")] = 0
    stay: Annotated[bool, Parameter(negative="", help="Keep everything running until Ctrl-C.")] = False
    publish_only: Annotated[
        bool, Parameter(negative="", help="Only publish, to the Kafka that KAFKA_BOOTSTRAP names.")
    ] = False
    out: Annotated[Path, Parameter(help="Folder for demo-summary.json and flights.duckdb.")] = Path()
    folder: Annotated[Path | None, Parameter(help="Folder of broker and worker; emptied first.")] = None

    def feed(self) -> Iterator[FeedRecord]:
        """The records that were chosen, in play order."""
        return feed(
            self.first, self.last, duplicates=self.duplicates, displaced=self.displaced, seed=self.seed
        )

    def check(self) -> None:
        """Resolve `--all`, refuse what cannot be played.

        Raises:
            LocalError: names the option.
        """
        if self.everything:
            self.first, self.last, self.speed = FIRST_DAY, LAST_DAY, 0.0
        if not FIRST_DAY <= self.first <= self.last <= LAST_DAY:
            raise LocalError(
                f"--from {self.first} --to {self.last}: choose days between {FIRST_DAY} and {LAST_DAY}"
            )
        for name, share in (("--duplicates", self.duplicates), ("--displaced", self.displaced)):
            if not 0 <= share <= 1:
                raise LocalError(f"{name} {share}: expected a share between 0 and 1, 0.05 for five per cent")


async def run(choice: Choice, console: Console) -> Summary:
    """Play, watch, project, sum up.

    Raises:
        LocalError, BrokerError, JarError, SettingsError: what keeps it from running, in one line.
    """
    choice.check()
    plan = compile_plan(flights)
    folder = choice.folder or home() / "demo"
    # A demo starts from nothing: state of an earlier play would take this one's events for duplicates.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    local = Local(
        plan,
        Path(__file__).with_name("flights.py"),
        folder,
        load_settings(),
        lambda line: console.print(f"  {line}", style="yellow"),
    )
    try:
        with started(console, local):
            local.start_broker(progress=jar_progress(console))
        await local.create_topics()
        local.start_worker()
        summary = await through(choice, local, console)
        show(summary, console)
        if choice.stay:
            await stay(local, console)
        else:
            console.print(how_to_read(folder), highlight=False, soft_wrap=True)
        return summary
    finally:
        local.stop()


async def publish(choice: Choice, console: Console) -> Progress:
    """Only play the events into a Kafka that is there, for workers that run elsewhere.

    Raises:
        LocalError: the pipeline's topics are not there.
    """
    choice.check()
    plan = compile_plan(flights)
    raw = topics.topic_name(plan, topics.RAW)
    reach = clients()
    partitions = (await kafka.partition_counts(reach, [raw])).get(raw)
    if partitions is None:
        raise LocalError(
            f"there is no topic {raw}. Create it with: midstream topics create examples/flights.py"
        )
    progress = Progress()
    with console.status(f"Publishing to {raw} …"):
        await play(reach, raw, partitions, choice.feed(), speed=choice.speed, progress=progress)
    console.print(f"{progress.published:,} events of {choice.first} to {choice.last} are on {raw}")
    return progress


@contextlib.contextmanager
def started(console: Console, local: Local) -> Iterator[None]:
    """Say that Kafka starts and where it is."""
    console.print(
        "Starting Kafka …" if local.settings.bootstrap is None else f"Kafka at {local.settings.bootstrap}"
    )
    began = time.monotonic()
    yield
    console.print(f"Kafka answers at {local.settings.bootstrap} ({time.monotonic() - began:.1f} s)")


def jar_progress(console: Console) -> Any:
    """Say how many of Kafka's jars have been fetched; nothing when they are there already."""

    def fetched(done: int, count: int, name: str) -> None:
        console.print(f"  fetched {done} of {count}: {name}", highlight=False)

    return fetched


async def through(choice: Choice, local: Local, console: Console) -> Summary:
    """The play itself: publisher and worker side by side, then the snapshot."""
    with console.status("The worker joins its group, opens its lanes …"):
        await ready(local)
    progress = Progress()
    began = time.monotonic()
    publisher = asyncio.create_task(
        play(
            local.clients,
            topics.topic_name(local.plan, topics.RAW),
            PARTITIONS,
            choice.feed(),
            speed=choice.speed,
            clock_step_ms=CLOCK_STEP_MS,
            progress=progress,
        )
    )
    try:
        await watch(choice, local, progress, publisher, console)
    finally:
        publisher.cancel()
    seconds = time.monotonic() - began
    console.print("Projecting the topics into DuckDB …")
    snapshot = (choice.out / "flights.duckdb").absolute()
    await project(local.clients, local.plan, local.folder / "snapshot.work", snapshot)
    summary = await asyncio.to_thread(sum_up, snapshot, progress, seconds, local.restarts)
    (choice.out / "demo-summary.json").write_text(json.dumps(asdict(summary), indent=2) + "\n")
    return summary


async def ready(local: Local) -> None:
    """Wait until every lane runs: what comes before would only measure how long a worker takes to start."""
    while total(await local.samples(), "midstream_lane_state", state="running") < 2 * PARTITIONS:
        local.supervise()
        await asyncio.sleep(REFRESH_S)


async def watch(
    choice: Choice, local: Local, progress: Progress, publisher: asyncio.Task[Progress], console: Console
) -> None:
    """Show how far it is until every lane's clock has come to the end of the play."""
    shown, printed = Meter(), 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            local.supervise()
            if publisher.done():
                publisher.result()
            samples = await local.samples()
            table = shown.table((choice.first, choice.last), progress, samples)
            if console.is_terminal:
                live.update(table, refresh=True)
            elif time.monotonic() - printed > PLAIN_REFRESH_S:
                printed = time.monotonic()
                console.print(shown.line(progress, samples), highlight=False)
            if progress.final_ms is not None and arrived(samples, local.plan, progress.final_ms):
                break
            await asyncio.sleep(REFRESH_S)
    console.print(shown.table((choice.first, choice.last), progress, samples))


def sum_up(snapshot: Path, progress: Progress, seconds: float, restarts: int) -> Summary:
    """The figures, read from the snapshot: the same numbers that anyone can read there."""
    with duckdb.connect(str(snapshot), read_only=True) as db:

        def one(query: str) -> Any:
            row = db.execute(query).fetchone()
            return None if row is None else row[0]

        def counts(query: str) -> dict[str, int]:
            return {str(name): int(count) for name, count in db.execute(query).fetchall()}

        judged = " UNION ALL ".join(
            f"SELECT admitted, duplicates FROM {entity}" for entity in ("flight", "aircraft", "airport")
        )
        p50, p99 = (
            one(f"SELECT quantile_cont(latency_ms, {q}) FROM (SELECT latency_ms FROM decisions)")
            for q in (0.5, 0.99)
        )
        statuses = {"scheduled": 0, "departed": 0, "arrived": 0, "cancelled": 0}
        return Summary(
            events_published=progress.published,
            events_processed=int(one(f"SELECT sum(admitted) FROM ({judged})") or 0),
            duplicates=int(one(f"SELECT sum(duplicates) FROM ({judged})") or 0),
            quarantined=int(one("SELECT count(*) FROM quarantine")),
            flights_by_status=statuses | counts("SELECT status, count(*) FROM flight GROUP BY ALL"),
            decisions_by_name=counts("SELECT decision, count(*) FROM decisions GROUP BY ALL ORDER BY ALL"),
            actions_by_name=counts("SELECT action, count(*) FROM actions GROUP BY ALL ORDER BY ALL"),
            reviews_open=int(one("SELECT count(*) FROM reviews WHERE status = 'open'")),
            snapshot=str(snapshot),
            seconds_processing=round(seconds, 2),
            latency_ms={"p50": round(float(p50 or 0), 1), "p99": round(float(p99 or 0), 1)},
            worker_restarts=restarts,
        )


async def stay(local: Local, console: Console) -> None:
    """Keep everything running until Ctrl-C, for a look around."""
    console.print(f"\nEverything keeps running at {local.settings.bootstrap} until Ctrl-C.")
    while True:
        local.supervise()
        await asyncio.sleep(1.0)


@app.default
def demo(
    choice: Annotated[Choice | None, Parameter(name="*")] = None,
    *,
    as_json: Annotated[
        bool, Parameter(name="--json", negative="", help="Print the summary as JSON.")
    ] = False,
) -> int:
    """Play real flights of 2013 through a real Kafka and watch what is decided."""
    chosen = choice or Choice()
    console = Console(stderr=as_json)
    told: Summary | Progress
    if chosen.publish_only:
        told = asyncio.run(publish(chosen, console))
    else:
        told = asyncio.run(run(chosen, console))
    if as_json:
        json.dump(asdict(told), sys.stdout, indent=2)
        print()
    return 0
