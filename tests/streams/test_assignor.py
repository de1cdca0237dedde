"""streams/assignor.py: every topic is shared evenly, by as few moves as that takes."""

from __future__ import annotations

from typing import Any

from aiokafka.cluster import ClusterMetadata
from hypothesis import given
from hypothesis import strategies as st

from streams.assignor import LaneAssignor, Shares, deal

TOPICS = ["x.events", "x.raw"]


class Cluster(ClusterMetadata):  # type: ignore[misc] # aiokafka has no types
    """A cluster whose topics have so many partitions."""

    def __init__(self, counts: dict[str, int]) -> None:
        super().__init__()
        self.counts = counts

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self.counts[topic]))


def member(held: dict[str, list[int]] | None = None) -> Any:
    """What a member tells of itself when it joins."""
    from aiokafka import TopicPartition

    if held is None:
        return LaneAssignor._metadata(TOPICS, None)
    return LaneAssignor._metadata(TOPICS, [TopicPartition(t, n) for t, each in held.items() for n in each])


def assigned(members: dict[str, Any], counts: dict[str, int]) -> dict[str, dict[str, list[int]]]:
    return {
        name: dict(given.assignment) for name, given in LaneAssignor.assign(Cluster(counts), members).items()
    }


def test_a_worker_that_joins_one_that_has_all_gets_half_of_both_topics() -> None:
    counts = dict.fromkeys(TOPICS, 4)
    alone = assigned({"one": member()}, counts)
    assert alone == {"one": {topic: [0, 1, 2, 3] for topic in TOPICS}}
    both = assigned({"one": member(alone["one"]), "two": member()}, counts)
    assert both == {
        "one": {"x.events": [0, 1], "x.raw": [0, 1]},
        "two": {"x.events": [2, 3], "x.raw": [2, 3]},
    }
    # Once more, in whatever order they come: nothing moves.
    again = assigned({name: member(both[name]) for name in ("two", "one")}, counts)
    assert again == both


def test_what_does_not_divide_goes_to_those_who_have_less() -> None:
    dealt = assigned(dict.fromkeys("abcdefgh", member()), dict.fromkeys(TOPICS, 4))
    assert [sum(map(len, each.values())) for each in dealt.values()] == [1] * 8


def test_topics_of_different_sizes_are_each_shared() -> None:
    dealt = assigned({"a": member(), "b": member()}, {"x.events": 4, "x.raw": 2})
    assert [(len(each["x.events"]), len(each["x.raw"])) for each in dealt.values()] == [(2, 1), (2, 1)]


@st.composite
def groups(draw: st.DrawFn) -> tuple[int, Shares, dict[str, int]]:
    """Partitions, what each member says that it holds (overlapping, stale or none), and what it has besides."""
    count = draw(st.integers(0, 12))
    names = draw(st.lists(st.sampled_from("abcdefg"), min_size=1, unique=True))
    held = {name: draw(st.lists(st.integers(0, 15), unique=True)) for name in names}
    return count, held, {name: draw(st.integers(0, 5)) for name in names}


@given(groups())
def test_every_partition_once_and_shares_that_differ_by_one_at_most(
    group: tuple[int, Shares, dict[str, int]],
) -> None:
    count, held, load = group
    shares = deal(range(count), held, load)
    assert sorted(number for numbers in shares.values() for number in numbers) == list(range(count))
    sizes = [len(numbers) for numbers in shares.values()]
    assert max(sizes) - min(sizes) <= 1
    # Where the shares are even already, nothing moves.
    assert deal(range(count), shares, load) == shares


@given(groups(), st.sampled_from("abcdefg"))
def test_only_what_must_move_moves_when_a_member_leaves(
    group: tuple[int, Shares, dict[str, int]], leaving: str
) -> None:
    count, held, load = group
    before = deal(range(count), held, load)
    left = {name: numbers for name, numbers in before.items() if name != leaving}
    if left:
        after = deal(range(count), left, load)
        assert all(set(before[name]) <= set(after[name]) for name in left)
