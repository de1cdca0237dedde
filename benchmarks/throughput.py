"""How many stateful events a second, exactly once, does one worker process: our lanes beside everybody else's.

    python -m benchmarks.throughput [--json] [--rounds N] [--events N] [--contenders a,b] [--plot FOLDER]

Back of the envelope, two cores with the broker on them, 1,000,000 events: 15 to 30 s for each contender that does
30,000 to 70,000/s and for an eighth of them on stock Faust, 6 s to count what it wrote, 10 s to start and end it:
eight contenders take five minutes a round, three rounds and the shorter one that warms up twenty.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks import load, outputs, peer_env, progress, report
from benchmarks.broker import fresh_topics
from benchmarks.contender import ContenderError, Task, running
from benchmarks.payments import payments
from benchmarks.program import command_line, grounds, positive, say
from benchmarks.program import run as run_program
from benchmarks.report import PARTITIONS, Run
from benchmarks.roster import Contender, chosen, in_turn
from streams.plan import compile_plan
from streams.settings import KafkaSettings
from streams.topics import CHANGES, EVENTS, Topic, topics

# The warm-up round gets one in so many of the events: enough for the broker, whose code is compiled by then.
WARM_UP_ONE_IN = 5


@dataclass(frozen=True)
class Sources:
    """The topics that everybody reads: one for each role and number of events, filled once."""

    settings: KafkaSettings
    stack: ExitStack

    def fill(self, role: str, events: int) -> None:
        """Make the topic and put the load on it."""
        say(f"loading {events:,} {role} events")
        name = self.name(events)
        wanted = [topic for topic in topics(compile_plan(payments)) if topic.role == role]
        self.stack.enter_context(fresh_topics(self.settings, name, wanted, PARTITIONS))
        load.produce(self.settings, f"{name}.{role}", events, role, PARTITIONS)

    @staticmethod
    def name(events: int) -> str:
        """What the topics of `events` events begin with."""
        return f"bench-{os.getpid()}-source-{events}"


@dataclass(frozen=True)
class Starter:
    """A contender that is ready to run: its environment is there."""

    contender: Contender
    command: Sequence[str]


def starters(asked: Sequence[Contender]) -> tuple[list[Starter], dict[str, str]]:
    """Everyone whose environment is there or could be made, and why the others are missing."""
    ready, missing = [], dict[str, str]()
    for contender in asked:
        try:
            ready.append(Starter(contender, peer_env.command(contender, say)))
        except peer_env.UnavailableError as error:
            missing[contender.name] = str(error)
            say(f"{contender.name} is missing: {error}")
    return ready, missing


def measure(settings: KafkaSettings, starter: Starter, number: int, events: int, home: Path) -> Run:
    """Fresh topics, the contender until all is committed, its outputs counted, the topics gone.

    Raises:
        ContenderError: it failed, or its committed outputs are not one per event.
    """
    contender = starter.contender
    name = f"bench-{os.getpid()}-{number}-{contender.name.replace('_', '-')}"
    source = f"{Sources.name(events)}.{contender.role}"
    task = Task(
        name=name,
        bootstrap=str(settings.bootstrap),
        role=contender.role,
        source=source,
        output=f"{name}.{CHANGES}",
        events=events,
        partitions=PARTITIONS,
        folder=str(home / name),
    )
    with fresh_topics(settings, name, own_topics(contender, name), PARTITIONS):
        load_1m = os.getloadavg()[0]
        with running(starter.command, task) as process:
            done = progress.watch(process, question(settings, contender, task), events)
        counted = outputs.count(settings, task.output, PARTITIONS)
    if counted.event_ids != events or (contender.exactly_once and counted.records != events):
        raise ContenderError(
            f"{contender.name}: expected {events} committed outputs, one per event, got "
            f"{counted.records} for {counted.event_ids} events. The round does not count."
        )
    measured_events = events * done.share
    return Run(
        contender=contender.name,
        round=number,
        events=events,
        seconds=round(done.seconds, 3),
        events_per_s=round(measured_events / done.seconds, 1),
        cpu_us_per_event=None if done.cpu_s is None else round(done.cpu_s / measured_events * 1e6, 1),
        cores=None if done.cpu_s is None else round(done.cpu_s / done.seconds, 2),
        peak_rss_mb=None if done.peak_rss_bytes is None else done.peak_rss_bytes >> 20,
        outputs=counted.records,
        output_events=counted.event_ids,
        load_1m=round(load_1m, 2),
    )


def own_topics(contender: Contender, name: str) -> list[Topic]:
    """The topics that are made for it: the output; for us all of the pipeline's except the one that everybody reads."""
    everything = topics(replace(compile_plan(payments), name=name))
    if contender.toolchain == "ours":
        return [topic for topic in everything if topic.role != contender.role]
    return [topic for topic in everything if topic.role == CHANGES]


def question(settings: KafkaSettings, contender: Contender, task: Task) -> Callable[[], progress.Progress]:
    """How its progress is asked for."""
    if not contender.exactly_once:
        return progress.written(settings, task.output, PARTITIONS, task.events)
    hops = [task.source] if contender.role == EVENTS else [task.source, f"{task.name}.{EVENTS}"]
    return progress.committed(settings, task.name, hops, PARTITIONS)


@contextmanager
def filled(settings: KafkaSettings, taking_part: Sequence[Starter], events: Sequence[int]) -> Iterator[None]:
    """Every source that somebody reads in a round of so many events, for the block."""
    with ExitStack() as stack:
        sources = Sources(settings, stack)
        for role, share in sorted(
            {(each.contender.role, each.contender.share(count)) for each in taking_part for count in events}
        ):
            sources.fill(role, share)
        yield


def rounds(
    settings: KafkaSettings,
    taking_part: Sequence[Starter],
    events: Sequence[int],
    home: Path,
    missing: dict[str, str],
) -> list[Run]:
    """Every contender in every round; the first `None` rounds warm up. Who fails is left out from then on.

    Args:
        settings: the broker.
        taking_part: who is ready.
        events: of each round, the first one being the warm-up (0 for none).
        home: where contenders have their databases.
        missing: gets those who failed, with the reason.
    """
    kept: list[Run] = []
    by_name = {each.contender.name: each for each in taking_part}
    for number, count in enumerate(events):
        if not count:
            continue
        for contender in in_turn([each.contender for each in taking_part], number):
            if contender.name in missing:
                continue
            try:
                done = measure(settings, by_name[contender.name], number, contender.share(count), home)
            except (ContenderError, TimeoutError) as error:
                missing[contender.name] = f"failed in round {number}: {error}"
                say(f"{contender.name}: {error}")
                continue
            say(f"{f'round {number} of {len(events) - 1}' if number else 'warm-up'}, {report.line(done)}")
            if number:
                kept.append(done)
    return kept


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = command_line("throughput", __doc__)
    parser.add_argument("--rounds", type=positive, default=3, help="measured rounds (3)")
    parser.add_argument("--events", type=positive, default=1_000_000, help="events per round (1000000)")
    parser.add_argument("--contenders", help="some of them, separated by commas (all)")
    parser.add_argument(
        "--no-warm-up", action="store_true", help="measure a cold broker from the first round on"
    )
    asked = parser.parse_args()
    try:
        asked.contenders = chosen(asked.contenders)
    except ValueError as error:
        parser.error(str(error))
    return asked


def print_report(found: Mapping[str, object], as_json: bool) -> None:
    """The report on standard output."""
    print(json.dumps(found) if as_json else report.table(found))


def main() -> int:
    """Run the rounds and print the report; returns the exit code."""
    asked = arguments()
    events = [0 if asked.no_warm_up else -(-asked.events // WARM_UP_ONE_IN), *[asked.events] * asked.rounds]
    taking_part, missing = starters(asked.contenders)
    with grounds() as (settings, home):
        where = report.circumstances(settings, asked.contenders)
        kafka, load_1m = where["versions"]["kafka"], where["machine"]["load_1m"]
        say(f"broker at {settings.bootstrap}, Kafka {kafka}; load {load_1m}")
        with filled(settings, taking_part, [count for count in set(events) if count]):
            runs = rounds(settings, taking_part, events, home, missing)
    found = {"rounds": asked.rounds, "events": asked.events, **report.summary(runs, missing), **where}
    if asked.plot is not None:
        report.draw(found, asked.plot)
    print_report(found, asked.json)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(run_program("throughput", main))
