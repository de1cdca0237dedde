"""streams/heads.py: what a committed offset says of the changelogs survives its metadata, and only grows."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.heads import ChangelogError, Heads, moved, read_heads
from streams.partitions import mark, marked

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,20}", fullmatch=True)
OFFSETS = st.dictionaries(NAMES, st.integers(1, 1 << 62), max_size=20)


@given(OFFSETS, OFFSETS, st.sampled_from(["", "8f3a01bc"]), st.integers(1, 500))
def test_what_is_written_is_read_beside_the_number_of_partitions(
    ends: Mapping[str, int], since: Mapping[str, int], life: str, partitions: int
) -> None:
    heads = Heads(ends, since, life)
    metadata = f"{mark(partitions)} {heads.written()}"
    assert read_heads(metadata) == heads
    assert marked(metadata) == partitions


@pytest.mark.parametrize("metadata", ["", "partitions=4", "somebody else's words"])
def test_offsets_of_before_say_nothing(metadata: str) -> None:
    assert read_heads(metadata) == Heads()


def test_changelogs_that_were_never_written_are_not_mentioned() -> None:
    assert Heads({"flight": 12, "lane": 0}, {"flight": 0}).written() == "heads=flight:12"
    assert Heads().written() == ""


def test_a_hundred_entities_fit_into_the_metadata() -> None:
    """Kafka's offset.metadata.max.bytes."""
    assert len(Heads({f"an_entity_{n:010}": 10**12 + n for n in range(100)}).written()) < 4000


def sent(*wires: tuple[str, int, int]) -> tuple[list[Any], list[Any]]:
    """(topic, records, acknowledged offset) of each."""
    return (
        [SimpleNamespace(topic=topic, records=records) for topic, records, _ in wires],
        [SimpleNamespace(offset=offset) for *_, offset in wires],
    )


def test_a_head_is_behind_the_last_record_of_the_last_wire_batch() -> None:
    wires = sent(("a.changelog", 10, 100), ("a.actions", 3, 7), ("a.changelog", 5, 110))
    before = {"a.changelog": 99, "b.changelog": 4}
    assert moved(before, 0, *wires) == {"a.changelog": 115, "b.changelog": 4}
    assert before == {"a.changelog": 99, "b.changelog": 4}


def test_an_offset_that_kafka_has_forgotten_moves_nothing() -> None:
    assert moved({"a": 5}, 0, *sent(("a", 10, -1))) == {"a": 5}


def test_offsets_that_go_back_are_of_another_topic() -> None:
    with pytest.raises(ChangelogError, match="a partition 3 goes on at offset 0, but held records up to 5"):
        moved({"a": 5}, 3, *sent(("a", 10, 0)))
