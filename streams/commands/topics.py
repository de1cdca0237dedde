"""`midstream topics create|list PIPELINE`: a pipeline file and a cluster come in; its topics are made, or shown."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from streams import cluster, kafka, topics
from streams.commands.shared import Json, PipelineFile, ask, note, plan_of, print_json, table
from streams.exits import EXIT_MISTAKE
from streams.inventory import TopicState, inventory, uneven
from streams.plan import Plan
from streams.where import clients

app = App(name="topics", help="The topics of a pipeline: make them, list them.")

# Loses no record when one broker of three is gone.
REPLICATION = 3


@app.command
def create(
    pipeline: PipelineFile,
    /,
    *,
    partitions: Annotated[
        int, Parameter(validator=Number(gte=1), help="Of each new topic: how many lanes can share the work.")
    ] = 4,
    replication: Annotated[
        int | None,
        Parameter(validator=Number(gte=1), help="Copies of each record; default 3, or as many as brokers."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Make the topics that do not exist yet, with the retention that they are declared with.

    Exit code 0: all are there. 78: they are there with partition counts that do not fit.
    """
    plan = plan_of(pipeline)
    made, states = ask(create_missing(clients(), plan, partitions, replication))
    if as_json:
        print_json({"created": made, "topics": states})
    else:
        for name in made:
            print(f"created {name}")
        note(f"{plan.name}: {len(made)} topics created, {len(states) - len(made)} were there")
    wrong = uneven(states)
    if wrong:
        note(f"midstream: {wrong}")
        return EXIT_MISTAKE
    return 0


async def create_missing(
    where: dict[str, Any], plan: Plan, partitions: int, replication: int | None
) -> tuple[list[str], list[TopicState]]:
    """The names of the new topics, and every topic as it is then."""
    if replication is None:
        replication = min(REPLICATION, (await cluster.brokers(where)).brokers)
    made = await kafka.create_topics(where, plan.name, topics.topics(plan), partitions, replication)
    return made, await inventory(where, plan)


@app.command(name="list")
def list_(pipeline: PipelineFile, /, *, as_json: Json = False) -> int:
    """Show partitions, offsets, retention and writer of every topic.

    Exit code 0: all are there and fit. 1: some are missing, or their partition counts do not fit.
    """
    plan = plan_of(pipeline)
    states = ask(inventory(clients(), plan))
    if as_json:
        print_json(states)
    else:
        headings = ["topic", "partitions", "first", "last", "kept", "key", "written by"]
        print(table([row(state) for state in states], headings))
    missing = [state.name for state in states if not state.partitions]
    if missing:
        note(f"missing: {', '.join(missing)}. Create them with: midstream topics create {pipeline}")
    elif wrong := uneven(states):
        note(wrong)
    else:
        return 0
    return 1


def row(state: TopicState) -> list[str]:
    """One topic as cells; offsets by partition."""
    if not state.partitions:
        return [state.name, "missing", "", "", state.retention, state.key, state.written_by]
    first, last = (",".join(map(str, offsets)) for offsets in (state.first, state.last))
    return [
        state.name,
        str(state.partitions),
        first,
        last,
        state.retention,
        state.key,
        state.written_by,
    ]
