"""How far a lane's changelogs had come when it committed its offset: written into that offset's metadata, and read.

Offset and rows are of one transaction, so a changelog that ends before what its offset says has lost committed rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

HEADS, SINCE, LIFE = "heads=", "since=", "life="


class ChangelogError(Exception):
    """A changelog has lost committed rows; the message says which, how it is known, and what to do."""


@dataclass(frozen=True)
class Heads:
    """What a committed offset says of the changelogs; of commits made before it said anything: nothing."""

    # Entity → the offset after its changelog's last record.
    ends: Mapping[str, int] = field(default_factory=dict)
    # Entity → the first offset that must still be there, where an operator has accepted that what was before is gone.
    since: Mapping[str, int] = field(default_factory=dict)
    # Changes when an operator takes a changelog that lost something as it is: databases of before do not go with it.
    life: str = ""

    def written(self) -> str:
        """As it stands in the metadata, which Kafka limits to 4,096 bytes: some hundred entities."""
        words = [
            prefix + ",".join(f"{name}:{offset}" for name, offset in offsets.items() if offset)
            for prefix, offsets in ((HEADS, self.ends), (SINCE, self.since))
            if any(offsets.values())
        ]
        return " ".join([*words, LIFE + self.life] if self.life else words)


def read_heads(metadata: str) -> Heads:
    """What the metadata of a committed offset says of the changelogs."""

    def offsets(prefix: str) -> dict[str, int]:
        listed = next((word.removeprefix(prefix) for word in words if word.startswith(prefix)), "")
        return {
            name: int(offset)
            for name, _, offset in (pair.partition(":") for pair in listed.split(",") if pair)
        }

    words = metadata.split()
    life = next((word.removeprefix(LIFE) for word in words if word.startswith(LIFE)), "")
    return Heads(offsets(HEADS), offsets(SINCE), life)


def moved(
    offsets: Mapping[str, int], partition: int, sent: Iterable[Any], acknowledged: Iterable[Any]
) -> dict[str, int]:
    """`offsets` (changelog topic → next offset) after the wire batches `sent`, each `acknowledged` by Kafka.

    Raises:
        ChangelogError: a changelog's offsets have gone back.
    """
    after = dict(offsets)
    for wire, first in zip(sent, acknowledged, strict=True):
        # Kafka acknowledges the offset of a wire batch's first record; -1 when it has forgotten which it was.
        if wire.topic in after and first.offset >= 0:
            if first.offset < after[wire.topic]:
                raise ChangelogError(
                    f"{wire.topic} partition {partition} goes on at offset {first.offset}, but held records up to "
                    f"{after[wire.topic]}: it was made anew while the lane ran. The last batch was not committed; "
                    f"start again to see what is lost"
                )
            after[wire.topic] = first.offset + wire.records
    return after
