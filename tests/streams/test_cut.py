"""The cut, held against lanes that write while it is taken: no transaction is ever in with only a part."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.cut import Look, Place, between_transactions

TOPICS = ("changelog", "decisions", "actions", "audit")


class Cluster:
    """Lanes that write transactions, a step at a time; a step passes between any two places that a look looks at."""

    def __init__(self, lanes: int, busy: float, seed: int) -> None:
        self.random, self.busy = Random(seed), busy
        self.lanes = {lane: [(topic, lane) for topic in TOPICS] for lane in range(lanes)}
        self.high = {place: 0 for places in self.lanes.values() for place in places}
        self.stable = dict(self.high)
        # Of every transaction so far: place → where it begins there, and the offset after its end.
        self.transactions: list[dict[Place, tuple[int, int]]] = []
        self.writers = [self.write(lane) for lane in self.lanes]

    def write(self, lane: int) -> Iterator[None]:
        """One lane: records into some places, then the end of the transaction in each of them, in any order."""
        while True:
            while self.random.random() > self.busy:
                yield
            places = self.random.sample(self.lanes[lane], self.random.randint(1, len(TOPICS)))
            begins = {place: self.high[place] for place in places}
            for place in places:
                self.high[place] += self.random.randint(1, 3)
                yield
            self.transactions.append({place: (begins[place], self.high[place] + 1) for place in places})
            for place in self.random.sample(places, len(places)):
                self.high[place] += 1
                self.stable[place] = self.high[place]
                yield

    def look(self, ends: Mapping[Place, int]) -> Look:
        """A look at one place after the other, while the lanes go on."""

        async def looking() -> dict[Place, int]:
            found = {}
            for place in self.random.sample(list(ends), len(ends)):
                found[place] = ends[place]
                for writer in self.writers:
                    next(writer)
            return found

        return looking

    def cut_in_two(self, ends: Mapping[Place, int]) -> set[int]:
        """The lanes of which `ends` have a part of a transaction."""
        torn = set()
        for transaction in self.transactions:
            inside = {ends[place] >= end for place, (_, end) in transaction.items()}
            amid = any(begin < ends[place] < end for place, (begin, end) in transaction.items())
            if len(inside) > 1 or amid:
                torn |= {lane for _, lane in transaction}
        return torn


@settings(deadline=None, max_examples=150)
@given(lanes=st.integers(1, 4), busy=st.sampled_from([0.001, 0.01, 0.05, 0.3]), seed=st.integers(0, 2**32))
def test_no_transaction_is_cut_in_two(lanes: int, busy: float, seed: int) -> None:
    cluster = Cluster(lanes, busy, seed)
    for writer in cluster.writers * 50:
        next(writer)
    looks = cluster.look(cluster.stable), cluster.look(cluster.high)
    ends, torn = asyncio.run(between_transactions(cluster.lanes, *looks, patience_s=0.02))
    assert ends.keys() == cluster.high.keys()
    assert cluster.cut_in_two(ends) <= torn


def test_lanes_with_pauses_are_all_found_between_two_transactions() -> None:
    cluster = Cluster(4, 0.002, 7)
    looks = cluster.look(cluster.stable), cluster.look(cluster.high)
    ends, torn = asyncio.run(between_transactions(cluster.lanes, *looks, patience_s=30))
    assert torn == frozenset()
    assert cluster.cut_in_two(ends) == set()
    assert cluster.transactions


def test_one_look_alone_cuts_transactions_in_two() -> None:
    found = 0
    for seed in range(50):
        cluster = Cluster(1, 0.05, seed)
        for writer in cluster.writers * 50:
            next(writer)
        found += bool(cluster.cut_in_two(asyncio.run(_await(cluster.look(cluster.stable)))))
    assert found > 0


async def _await(look: Look) -> Mapping[Place, int]:
    return await look()


def test_a_lane_that_never_rests_gets_its_last_stable_offsets_and_is_named() -> None:
    cluster = Cluster(2, 1.0, 3)
    looks = cluster.look(cluster.stable), cluster.look(cluster.high)
    ends, torn = asyncio.run(between_transactions(cluster.lanes, *looks, patience_s=0.01))
    assert torn == {0, 1}
    assert ends.keys() == cluster.stable.keys()
    assert all(ends[place] <= cluster.stable[place] for place in ends)


def test_a_place_of_no_lane_gets_its_last_stable_offset() -> None:
    async def look() -> dict[Place, int]:
        return {("decisions", 0): 5, ("quarantine", 0): 9}

    ends, torn = asyncio.run(between_transactions({0: [("decisions", 0)]}, look, look, 1.0))
    assert (ends, torn) == ({("decisions", 0): 5, ("quarantine", 0): 9}, frozenset())
