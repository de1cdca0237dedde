"""streams/offsets.py: what is missing, and what a reset does. With workers: tests/broker/test_lost_data.py."""

from __future__ import annotations

import asyncio

import pytest

from streams import kafka as door
from streams.heads import read_heads
from streams.offsets import (
    OffsetsError,
    Position,
    missing,
    out_of_range,
    plan_reset,
    positions,
    reset,
    target,
)
from streams.plan import Plan
from streams.settings import KafkaSettings
from tests.support.bank import bank, moves
from tests.support.loss import delete_before, make_anew
from tests.support.topics import publish
from tests.support.workers import create, unique


def position(committed: int | None, first: int = 100, last: int = 200) -> Position:
    return Position("raw", 0, committed, first, last, "", "")


@pytest.mark.parametrize("offset", [100, 150, 200])
def test_an_offset_from_the_first_record_to_the_end_is_there(offset: int) -> None:
    assert missing(offset, 100, 200) == ""


def test_what_is_missing_is_counted() -> None:
    assert missing(40, 100, 200) == "up to 60 records were deleted before they were read"
    assert missing(201, 100, 200).endswith("it ends 1 before the next record to read")


def test_the_last_line_of_a_worker_names_partition_range_and_cure() -> None:
    line = out_of_range("shop.eu.raw", 3, 40, 100, 200)
    assert line.startswith(
        "shop.eu.raw partition 3: the next record to read is at offset 40, Kafka has 100 to 200: "
    )
    assert "midstream offsets reset PIPELINE --to earliest --partition raw:3." in line


def test_a_target_must_be_there() -> None:
    assert target(position(40), "earliest") == 100
    assert target(position(140), "keep") == 140
    assert target(position(None), "keep") == 100
    assert target(position(40), 200) == 200
    with pytest.raises(OffsetsError, match="raw:0: offset 201 is not there; Kafka has 100 to 200"):
        target(position(40), 201)
    with pytest.raises(OffsetsError, match="offset 40 is not there"):
        target(position(40), "keep")


@pytest.mark.broker
async def test_only_partitions_that_cannot_go_on_are_moved_unless_one_is_named(kafka: KafkaSettings) -> None:
    name, clients = unique("bank"), kafka.client_options()
    plan = await create(kafka, bank(name), 2)
    for partition in (0, 1):
        publish(kafka, f"{name}.raw", list(moves(50, duplicates=0.0)), partition=partition)
    await door.commit_offsets(
        clients, name, {(f"{name}.raw", 0): (10, "partitions=2 heads=lane:7"), (f"{name}.raw", 1): (10, "")}
    )
    delete_before(kafka, f"{name}.raw", 0, 30)
    assert [(at.name, at.committed, at.trouble != "") for at in await positions(clients, plan)] == [
        ("raw:0", 10, True),
        ("raw:1", 10, False),
        ("events:0", None, False),
        ("events:1", None, False),
    ]
    moves_ = await plan_reset(clients, plan, "earliest", [])
    assert [(move.name, move.before, move.after) for move in moves_] == [("raw:0", 10, 30)]
    # What the offset said of partitions and changelogs is still so.
    await reset(clients, plan, moves_)
    committed = {tp.partition: at for tp, at in (await door.committed_offsets(clients, name)).items()}
    assert (committed[0].offset, committed[0].metadata) == (30, "partitions=2 heads=lane:7")
    assert await plan_reset(clients, plan, "earliest", []) == []
    assert [move.after for move in await plan_reset(clients, plan, 40, ["raw:1"])] == [40]
    await refused(clients, plan)


async def refused(clients: dict[str, object], plan: Plan) -> None:
    """What is not asked for clearly is not done."""
    with pytest.raises(OffsetsError, match="an offset is of one partition"):
        await plan_reset(clients, plan, 40, [])
    with pytest.raises(OffsetsError, match=r"no partition raw:7\. Expected one of raw:0, raw:1"):
        await plan_reset(clients, plan, "earliest", ["raw:7"])


@pytest.mark.broker
async def test_a_changelog_that_lost_rows_is_seen_and_can_be_accepted(kafka: KafkaSettings) -> None:
    name, clients = unique("bank"), kafka.client_options()
    plan = await create(kafka, bank(name), 1)
    publish(kafka, f"{name}.events", list(moves(20, duplicates=0.0)))
    publish(kafka, f"{name}.account.changelog", list(moves(20, duplicates=0.0)))
    said = "partitions=1 heads=account:20,lane:0"
    await door.commit_offsets(clients, name, {(f"{name}.events", 0): (15, said)})
    assert [at.trouble for at in await positions(clients, plan)] == ["", ""]
    await asyncio.to_thread(make_anew, kafka, f"{name}.account.changelog", 1)
    trouble = [at.trouble for at in await positions(clients, plan)]
    assert trouble == ["", "the changelog of account ends at 0, and went on to 20 when this was committed"]
    (move,) = await plan_reset(clients, plan, "keep", [])
    assert (move.name, move.before, move.after) == ("events:0", 15, 15)
    await reset(clients, plan, [move])
    (at,) = (await door.committed_offsets(clients, name)).values()
    heads = read_heads(at.metadata)
    assert (at.offset, dict(heads.ends), len(heads.life)) == (15, {}, 8)
    assert [at.trouble for at in await positions(clients, plan)] == ["", ""]
