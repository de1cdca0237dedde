"""`midstream context show PIPELINE DECISION_ID`: what a decision looked at, for people, for models and for programs."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from agents.manifest import WHY, Fact, rendered, text
from schemas.keys import entity_key
from streams.commands.shared import Json, PipelineFile, ask, moment, plan_of, print_json, steps, table
from streams.contexts import Shown, shown
from streams.quarantine import printable
from streams.where import clients

app = App(name="context", help="What decisions looked at.")

# A page is for reading: longer values are cut there, and whole in --json.
VALUE_CHARACTERS = 60


@app.command
def show(
    pipeline: PipelineFile,
    decision_id: Annotated[str, Parameter(help="dec_…, as `midstream explain` names it.")],
    /,
    *,
    for_model: Annotated[
        bool, Parameter(negative="", help="Print the context as a model is given it, and nothing else.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Print the facts that a decision was made on: who said each, how old it was then, and what was left out, and why.

    Exit code 0: it is printed. 1: there is no such decision.
    """
    plan = plan_of(pipeline)
    where = clients()
    with steps() as step:
        found = ask(shown(where, plan, decision_id, step))
    if as_json:
        print_json(parts(found))
    elif for_model:
        print(for_a_model(found))
    else:
        print("\n".join(page(found)))
    return 0


def parts(found: Shown) -> dict[str, Any]:
    """All of it by name."""
    return {
        "decision_id": found.decision.decision_id,
        "context": found.decision.context,
        "context_hash": found.decision.context_hash,
        "made_anew": "same" if found.same else "different",
        "manifest": found.manifest,
        "for_model": for_a_model(found),
    }


def for_a_model(found: Shown) -> str:
    """The context and its facts as a model reads them."""
    about = entity_key(found.decision.entity, found.decision.key)
    return rendered(found.manifest, found.decision.decision, about, text(found.decision.context))


def page(found: Shown) -> list[str]:
    """A context on a page."""
    decision = found.decision
    about = entity_key(decision.entity, decision.key)
    lines = [
        f"{decision.decision} of {printable(about)} at {moment(decision.at_ms)}",
        "",
        "what it was given",
    ]
    lines += [f"  {name}: {cut(value)}" for name, value in decision.context.items()]
    if not found.same:
        lines += ["", "made anew of the events it is different: the pipeline's code has changed since"]
    lines += ["", table([cells(fact) for fact in found.manifest.facts], ["fact", "value", "age", "said by"])]
    if found.manifest.left_out:
        lines += ["", "left out"]
        lines += [
            f"  {each.count} of {printable(each.what)}: {WHY[each.why]}" for each in found.manifest.left_out
        ]
    return lines


def cells(fact: Fact) -> list[str]:
    """One fact as cells."""
    return [printable(fact.id), cut(fact.value), fact.age or "-", printable(fact.event_id or "-")]


def cut(value: Any) -> str:
    """A value, as long as a page has room for."""
    whole = printable(text(value))
    return whole if len(whole) <= VALUE_CHARACTERS else whole[: VALUE_CHARACTERS - 1] + "…"
