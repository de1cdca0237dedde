"""streams/plan.py: from declarations to rules: owners, copies, ranks; and pipeline files."""

from __future__ import annotations

import dataclasses
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import dedent

import pytest

from examples.flights import flights
from streams import Dedupe, Event, Pipeline, State, Summary
from streams.pipeline import Entity
from streams.plan import Copy, compile_plan, load
from streams.signatures import PipelineError
from tests.support.shop import Cancelled, Paid, Placed, shop


class One(Event, type="one"):
    a: str
    b: str
    c: str


class Thing(State):
    to: str | None = None


class Brief(Summary):
    to: str | None


def chain(*names: str) -> tuple[Pipeline, list[Entity[Thing]]]:
    """Entities that each hear `One`."""
    pipeline = Pipeline("things", version=1)
    made = []
    for name in names:
        entity = pipeline.entity(name, Thing, key=name)
        entity.hear(One, name)
        made.append(entity)
    return pipeline, made


def test_the_first_entity_that_hears_an_event_owns_it() -> None:
    plan = compile_plan(shop())
    assert {name: (known.owner, known.key_field) for name, known in plan.types.items()} == {
        "order.placed": ("order", "order_id"),
        "order.paid": ("order", "order_id"),
        "order.cancelled": ("order", "order_id"),
    }
    assert {name: known.model for name, known in plan.types.items()} == {
        "order.placed": Placed,
        "order.paid": Paid,
        "order.cancelled": Cancelled,
    }


def test_every_other_entity_that_hears_it_gets_a_copy_by_its_own_key() -> None:
    plan = compile_plan(shop())
    assert plan.copies == {
        "order.placed": (),
        "order.paid": (Copy("customer", "customer_id"),),
        "order.cancelled": (),
    }
    pipeline, _ = chain("a", "b", "c")
    assert compile_plan(pipeline).copies["one"] == (Copy("b", "b"), Copy("c", "c"))


def test_a_rank_counts_how_far_facts_have_travelled() -> None:
    assert {name: entity.rank for name, entity in compile_plan(shop()).entities.items()} == {
        "order": 1,
        "customer": 2,
    }
    assert {name: entity.rank for name, entity in compile_plan(flights).entities.items()} == {
        "flight": 1,
        "aircraft": 2,
        "airport": 2,
    }


def test_a_rank_follows_links_too() -> None:
    pipeline = Pipeline("things", version=1)
    a, b, c = (pipeline.entity(name, Thing, key=name) for name in "abc")
    a.hear(One, "a")
    a.link(b, "x", on="to", carries=Brief)
    b.link(c, "y", on="to", carries=Brief)
    plan = compile_plan(pipeline)
    assert [plan.entities[name].rank for name in "abc"] == [1, 2, 3]
    assert plan.ranks == 3


def test_links_in_a_circle_are_refused_and_shown() -> None:
    pipeline = Pipeline("things", version=1)
    a, b = (pipeline.entity(name, Thing, key=name) for name in "ab")
    a.link(b, "x", on="to", carries=Brief)
    b.link(a, "y", on="to", carries=Brief)
    with pytest.raises(PipelineError, match="links without a cycle, got a → b → a"):
        compile_plan(pipeline)


def test_an_entity_may_link_to_its_own_kind() -> None:
    pipeline = Pipeline("things", version=1)
    a = pipeline.entity("a", Thing, key="a")
    a.hear(One, "a")
    a.link(a, "others", on="to", carries=Brief)
    assert compile_plan(pipeline).entities["a"].rank == 1


def test_bounds_reach_the_rules_in_milliseconds() -> None:
    pipeline = Pipeline(
        "things",
        version=1,
        earliest=datetime(2000, 1, 1, tzinfo=UTC),
        ahead=timedelta(hours=2),
        max_body_bytes=9,
    )
    pipeline.entity(
        "a",
        Thing,
        key="a",
        order="arrival",
        stale_after=timedelta(minutes=1),
        dedupe=Dedupe(timedelta(seconds=3), 4),
        history=5,
        grace=timedelta(seconds=6),
    )
    plan = compile_plan(pipeline)
    assert (plan.earliest_ms, plan.ahead_ms, plan.max_body_bytes) == (946_684_800_000, 7_200_000, 9)
    rules = plan.entities["a"].rules
    assert (rules.order, rules.dedupe_within_ms, rules.dedupe_limit) == ("arrival", 3000, 4)
    assert (rules.history_limit, rules.grace_ms, plan.entities["a"].stale_after_ms) == (5, 6000, 60_000)


def test_a_decision_has_its_routes_stakes_and_person() -> None:
    watch = compile_plan(shop(on_timeout="approve")).entities["customer"].decision("watch")
    assert [route.name for route in watch.rules.routes] == ["too_much", "good_customer"]
    assert watch.rules.stakes == {"block": "high", "praise": "medium"}
    assert watch.rules.review is not None
    assert (watch.rules.review.deadline_ms, watch.rules.review.on_timeout) == (3_600_000, "approve")
    assert set(watch.actions) == {"block", "praise"}


def test_a_plan_is_frozen() -> None:
    plan = compile_plan(shop())
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.name = "other"  # type: ignore[misc] # the point


def test_two_pipelines_of_one_file_do_not_share_anything() -> None:
    one, two = shop("one"), shop("two")
    two.entities["order"].reducers.clear()
    assert one.entities["order"].reducers


# Pipeline files.

PIPELINE = dedent("""
    from streams import Event, Pipeline, State

    class One(Event, type="one"):
        a: str

    class Thing(State):
        count: int = 0

    things = Pipeline("things", version=1)
    thing = things.entity("thing", Thing, key="a")

    @thing.on(One)
    def one(state: Thing, event: One) -> Thing:
        return state.evolve(count=state.count + 1)
""")


def file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "pipe.py"
    path.write_text(text)
    return path


def test_a_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    plan = compile_plan(load(file(tmp_path, PIPELINE)))
    assert (plan.name, set(plan.types)) == ("things", {"one"})


def test_the_flights_are_a_pipeline_file() -> None:
    assert load(Path(__file__).parents[2] / "examples" / "flights.py").name == "flights"


def test_a_file_may_postpone_its_annotations(tmp_path: Path) -> None:
    loaded = load(file(tmp_path, "from __future__ import annotations\n" + PIPELINE))
    assert set(compile_plan(loaded).types) == {"one"}


def test_a_file_changes_nothing_in_the_search_path(tmp_path: Path) -> None:
    before = list(sys.path)
    load(file(tmp_path, PIPELINE))
    assert sys.path == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "expected one streams.Pipeline at top level, got 0"),
        (
            PIPELINE + 'more = Pipeline("more", version=1)',
            "expected one streams.Pipeline at top level, got 2",
        ),
        ("x = 1 / 0", "ZeroDivisionError: division by zero"),
        ("import nobody_knows_this", "ModuleNotFoundError: No module named 'nobody_knows_this'"),
        ("def (", "SyntaxError: invalid syntax"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(PipelineError) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_the_same_pipeline_under_two_names_is_one(tmp_path: Path) -> None:
    assert load(file(tmp_path, PIPELINE + "\nalias = things\n")).name == "things"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no such file"):
        load(tmp_path / "nothing.py")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="no such file"):
        load(tmp_path)


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = tmp_path / "pipe.yaml"
    path.write_text("x: 1")
    with pytest.raises(PipelineError, match="not a Python file"):
        load(path)
