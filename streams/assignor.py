"""Who gets which lane: the group's members and what they hold come in; a share of each topic for each of them goes out.

Kafka's sticky assignor counts partitions, whatever they are of: a worker that joins one that runs alone gets all of
`raw` and none of `events`, so that the second process is idle while the first does all the work. Here every topic is
shared evenly by itself, and among even shares the one that moves the fewest lanes is taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

# Member → its partitions of one topic.
Shares = dict[str, list[int]]


class LaneAssignor(StickyPartitionAssignor):  # type: ignore[misc] # aiokafka has no types
    """Kafka's sticky protocol (every member tells what it holds) with another way to deal.

    It keeps the protocol's name: workers of both kinds can be in one group, and the leader's way counts.
    """

    @classmethod
    def assign(
        cls, cluster: ClusterMetadata, members: Mapping[str, Any]
    ) -> dict[str, ConsumerProtocolMemberAssignment]:
        """Deal the partitions of every subscribed topic; called in the group's leader."""
        told = {member: cls.parse_member_metadata(metadata) for member, metadata in members.items()}
        dealt: dict[str, list[tuple[str, list[int]]]] = {member: [] for member in members}
        for topic in sorted({topic for metadata in members.values() for topic in metadata.subscription}):
            held = {
                member: [tp.partition for tp in metadata.partitions if tp.topic == topic]
                for member, metadata in told.items()
            }
            load = {member: sum(len(numbers) for _, numbers in given) for member, given in dealt.items()}
            for member, numbers in deal(cluster.partitions_for_topic(topic) or (), held, load).items():
                if numbers:
                    dealt[member].append((topic, numbers))
        return {
            member: ConsumerProtocolMemberAssignment(cls.version, given, b"")
            for member, given in dealt.items()
        }


def deal(partitions: Iterable[int], held: Mapping[str, list[int]], load: Mapping[str, int]) -> Shares:
    """Share `partitions` of one topic evenly: no member gets two more than another.

    Args:
        partitions: their numbers.
        held: member → what it holds of them now, as far as it says; it keeps what its share has room for.
        load: member → how many partitions of other topics it has got; whoever has fewer gets what does not divide.
    """
    wanted = set(partitions)
    least, over = divmod(len(wanted), len(held))
    # The larger shares go to those who hold that much, so that fewer move.
    order = sorted(held, key=lambda member: (-min(len(held[member]), least + 1), load[member], member))
    room = {member: least + (place < over) for place, member in enumerate(order)}
    shares: Shares = {member: [] for member in held}
    for member in order:
        # Two may claim the same: one of them has slept.
        kept = sorted(wanted & set(held[member]))[: room[member]]
        shares[member] += kept
        wanted -= set(kept)
    for number in sorted(wanted):
        member = min(
            (member for member in order if len(shares[member]) < room[member]),
            key=lambda member: (load[member] + len(shares[member]), member),
        )
        shares[member].append(number)
    return {member: sorted(numbers) for member, numbers in shares.items()}
