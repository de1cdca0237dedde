"""tables/snapshot_past.py: `<entity>_as_of(moment)` in SQL is the state of a pipeline that heard nothing later."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.record import Given
from schemas.row import FoldOrder, State
from schemas.units import UtcTime
from streams import Dedupe, Event, Pipeline
from streams.memory import happened, run
from streams.topics import CHANGES
from tables.snapshot import Cut, Snapshot, Source
from tables.snapshot_tables import tables

START = datetime(2024, 5, 1, 9, tzinfo=UTC)
CUT = Cut("cluster", START)
ORDERS: tuple[FoldOrder, ...] = ("arrival", "latest", "refold")


class Box(State):
    place: str | None = "shelf's end"
    count: int = 0
    tags: tuple[str, ...] = ("{new}",)
    day: date | None = None
    moved_at: UtcTime | None = None
    share: float = 0.5
    full: bool = False
    # The table has a column called like it.
    version: int = 7


class Told(Event, type="box.told"):
    box_id: str
    place: str | None = "-"
    count: int | None = None
    tags: tuple[str, ...] | None = None


def told(state: Box, event: Told) -> Box:
    said: dict[str, Any] = {}
    if event.place != "-":
        said["place"] = event.place
    if event.count is not None:
        said |= {"count": event.count, "share": event.count / 4, "full": event.count > 2}
        said |= {"day": date(2024, 5, 1 + event.count), "moved_at": START + timedelta(days=event.count)}
    if event.tags is not None:
        said |= {"tags": event.tags, "version": len(event.tags)}
    return state.evolve(**said) if said else state


def boxes(order: FoldOrder) -> Pipeline:
    pipeline = Pipeline("boxes", version=1)
    box = pipeline.entity(
        "box", Box, key="box_id", order=order, grace=timedelta(hours=2), dedupe=Dedupe(limit=200)
    )
    box.on(Told)(told)
    return pipeline


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


def record(minute: int, event: Told) -> Given:
    # The id is made of all the rest: the same again is a duplicate and no conflict.
    return happened(event, at(minute), f"{minute}/{event.model_dump_json()}")


def snapshot_of(folder: Path, order: FoldOrder, records: Iterable[Given], name: str = "boxes") -> Path:
    """The published file of a pipeline that heard `records`."""
    states: dict[str, type[State]] = {"box": Box}
    roles = {table.role: f"boxes.{table.role}" for table in tables(states)}
    snapshot = Snapshot(folder / f"{name}.work", Source("boxes", 1, roles, states, {"box": order}))
    outs = run(boxes(order), records).records[CHANGES]
    changes = [Given("boxes.changes", 0, offset, 0, out.key, out.value) for offset, out in enumerate(outs)]
    path = folder / f"{name}.duckdb"
    snapshot.apply({"boxes.changes": changes}, {}, CUT)
    snapshot.publish(path)
    snapshot.close()
    return path


def as_of(path: Path, minute: int) -> dict[str, dict[str, Any]]:
    """Key → what the macro says of it."""
    with duckdb.connect(str(path), read_only=True) as db:
        db.execute("SET TimeZone = 'UTC'")
        found = db.execute(
            "SELECT * REPLACE (epoch_ms(moved_at) AS moved_at) FROM box_as_of(?)", [at(minute)]
        )
        names = [column[0] for column in found.description or ()]
        return {row[0]: dict(zip(names[1:], row[1:], strict=True)) for row in found.fetchall()}


def columns(state: State) -> dict[str, Any]:
    """A state as the macro's columns."""
    values = state.model_dump()
    assert isinstance(state, Box)
    values["tags"] = state.__pydantic_serializer__.to_json(state, include={"tags"}).decode()[8:-1]
    values["moved_at"] = None if state.moved_at is None else int(state.moved_at.timestamp() * 1000)
    return {"state_version" if name == "version" else name: value for name, value in values.items()}


told_event = st.builds(
    Told,
    box_id=st.sampled_from("ab"),
    place=st.sampled_from(["-", None, "door", "it's"]),
    count=st.none() | st.integers(0, 4),
    tags=st.none() | st.sampled_from([(), ("x", "y")]),
)
stories = st.lists(st.tuples(st.integers(0, 30), told_event), max_size=10)


@pytest.mark.parametrize("order", ORDERS)
@given(story=stories, minutes=st.lists(st.integers(0, 30), min_size=1, max_size=4))
@settings(max_examples=12)
def test_it_is_the_state_of_a_pipeline_that_heard_nothing_later(
    tmp_path_factory: pytest.TempPathFactory,
    order: FoldOrder,
    story: list[tuple[int, Told]],
    minutes: list[int],
) -> None:
    path = snapshot_of(tmp_path_factory.mktemp("boxes"), order, [record(*each) for each in story])
    for minute in minutes:
        heard = run(boxes(order), [record(when, event) for when, event in story if when <= minute])
        found = as_of(path, minute)
        for key in "ab":
            state = heard.row("box", key).state
            # Of whom nothing was said, nothing is there.
            assert found.get(key, columns(Box())) == columns(state)


@pytest.mark.parametrize(("order", "place"), [("arrival", "c"), ("latest", "b"), ("refold", "b")])
def test_what_a_newer_event_had_said_again_holds_against_a_late_one(
    tmp_path: Path, order: FoldOrder, place: str
) -> None:
    story = [(1, "b"), (5, "b"), (3, "c")]
    path = snapshot_of(tmp_path, order, [record(m, Told(box_id="a", place=p)) for m, p in story])
    assert [as_of(path, minute)["a"]["place"] for minute in (1, 4, 5)] == ["b", "c", place]


def test_what_a_late_event_made_of_others_is_said_anew(tmp_path: Path) -> None:
    story = [(1, "a"), (5, "b"), (3, "b")]
    path = snapshot_of(tmp_path, "refold", [record(m, Told(box_id="x", place=p)) for m, p in story])
    with duckdb.connect(str(path), read_only=True) as db:
        said = db.execute(
            "SELECT version, changed, old->>'$', new->>'$', date_diff('minute', ?, event_time), late_event_id[:1] "
            "FROM changes ORDER BY kafka_offset",
            [START],
        ).fetchall()
    assert said == [
        (1, True, "shelf's end", "a", 1, None),
        (2, True, "a", "b", 5, None),
        # The late one changed it, so the one after it no longer does.
        (3, True, "a", "b", 3, None),
        (3, False, None, "b", 5, "3"),
    ]


def test_a_file_that_is_attached_knows_its_past_too(tmp_path: Path) -> None:
    path = snapshot_of(tmp_path, "latest", [record(1, Told(box_id="a", count=3))], name="other")
    with duckdb.connect() as db:
        db.execute(f"ATTACH '{path}' AS mine (READ_ONLY)")
        db.execute("USE mine")
        assert db.execute("SELECT count FROM box_as_of(?)", [at(2)]).fetchall() == [(3,)]
