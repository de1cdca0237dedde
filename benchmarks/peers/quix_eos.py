"""Quix Streams on the same work: exactly-once, state in RocksDB with its changelog, one output per event.

Back of the envelope: its own 12 µs of Python an event around librdkafka, 6 for the state, 8 for JSON and the work:
30,000/s.

Where it had a choice it got the faster one: a commit about every 20,000 events, so that the last one comes with the
last event and not up to 5 s later, large producer batches, no logging.
"""

from __future__ import annotations

from typing import Any

from quixstreams import Application, State  # type: ignore[import-not-found] # in an environment of its own

from benchmarks.contender import Task, end_with_parent
from benchmarks.peers.work import NEW, changed, paid

COMMIT_EVERY_MAX, COMMIT_EVERY_MIN = 20_000, 5_000
# For the last events, when they are no whole commit.
COMMIT_INTERVAL_S = 2.0


def commit_every(events: int) -> int:
    """The most events per commit, within the limits, that divides all of them; the maximum if none does."""
    most = min(COMMIT_EVERY_MAX, events)
    return next((number for number in range(most, COMMIT_EVERY_MIN - 1, -1) if events % number == 0), most)


def build(task: Task) -> Any:
    """The application as its documentation has it."""
    app = Application(
        broker_address=task.bootstrap,
        consumer_group=task.name,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        state_dir=f"{task.folder}/quix",
        commit_every=commit_every(task.events),
        commit_interval=COMMIT_INTERVAL_S,
        producer_extra_config={
            "linger.ms": 20,
            "batch.size": 500_000,
            "queue.buffering.max.messages": 200_000,
        },
        auto_create_topics=True,
        loglevel="WARNING",
    )
    events = app.topic(task.source, key_deserializer="str", value_deserializer="json")
    changes = app.topic(task.output, key_serializer="str", value_serializer="json")

    def account(event: dict[str, Any], state: State) -> dict[str, Any]:
        before = state.get("account", NEW)
        after = paid(before, event)
        state.set("account", after)
        return changed(event, before, after)

    app.dataframe(events).apply(account, stateful=True).to_topic(changes)
    return app


def main() -> None:
    """Run the application until it is ended."""
    task = Task.from_argv()
    end_with_parent()
    build(task).run()


if __name__ == "__main__":
    main()
