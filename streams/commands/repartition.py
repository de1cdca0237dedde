"""`midstream repartition PIPELINE --partitions N`: a stopped pipeline comes in; one with more partitions goes out."""

from __future__ import annotations

from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from streams.commands.shared import Json, PipelineFile, ask, note, plan_of, print_json
from streams.repartition import repartition as move
from streams.where import clients

app = App(name="repartition")


@app.default
def repartition(
    pipeline: PipelineFile,
    /,
    *,
    partitions: Annotated[
        int,
        Parameter(validator=Number(gte=1), help="How many `events` and all topics behind it are to have."),
    ],
    as_json: Json = False,
) -> int:
    """Give a stopped pipeline more partitions and move its rows to where their keys belong then.

    Exit code 0: done, or nothing was to be done. 69: Kafka is not there. 78: workers run, or the number cannot be.
    What is cut off has not happened; start it again.
    """
    plan = plan_of(pipeline)
    done = ask(move(clients(), plan, partitions, lambda line: note(f"{plan.name}: {line}")))
    if as_json:
        print_json(done)
    else:
        print(
            f"{plan.name} has {done.after} partitions (before: {done.before}): {done.rows:,} rows and {done.reviews:,} "
            f"reviews moved, {done.events:,} unread events written anew"
        )
    return 0
