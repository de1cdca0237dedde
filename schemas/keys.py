"""Exactly-once keys: derived from what caused them, never random, so a retry or a replay gives the same key."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b
from zlib import crc32


def derived(prefix: str, *parts: str) -> str:
    """`prefix` and 24 hex digits that stand for `parts` (96 bits of BLAKE2b).

    Each part is preceded by its length, so ("ab", "c") and ("a", "bc") differ. With 96 bits, a collision among
    a thousand million keys has a probability of 6e-12 (birthday bound n^2 / 2^97).
    """
    digest = blake2b(digest_size=12)
    for part in parts:
        raw = part.encode()
        digest.update(b"%d:" % len(raw))
        digest.update(raw)
    return prefix + digest.hexdigest()


def event_id(source: str, body: bytes) -> str:
    """The id of an event whose source gives none: a hash of source and body."""
    return derived("evt_", source, body.hex())


def decision_id(pipeline: str, version: int, decision: str, entity: str, trigger: str) -> str:
    """The key of the decision that `trigger` caused on `entity` (`kind:key`)."""
    return derived("dec_", pipeline, str(version), decision, entity, trigger)


def action_id(decision: str, action: str, position: int) -> str:
    """The key of the action at `position` among those of `decision` (a decision id)."""
    return derived("act_", decision, action, str(position))


def review_id(decision: str) -> str:
    """The key of the review that `decision` (a decision id) waits for."""
    return derived("rev_", decision)


def quarantine_id(topic: str, partition: int, offset: int, part: str = "") -> str:
    """The key of the quarantine record of one source record: where it stood is what names it."""
    return derived("qua_", topic, str(partition), str(offset), part)


def entity_key(entity: str, key: str) -> str:
    """`entity:key`, the Kafka key of everything about one entity."""
    return f"{entity}:{key}"


def fingerprint(body: bytes, start: int = 0) -> int:
    """CRC-32 of `body`, kept beside a seen event id to tell a duplicate from a conflict.

    `start` is the CRC-32 of what stands before it.

    It guards against mistakes, not against malice: one changed body in 2^32 passes for a duplicate.
    """
    return crc32(body, start)


@lru_cache(maxsize=1 << 17)
def partition_of(key: bytes, partitions: int) -> int:
    """The partition that any Kafka client's default partitioner gives `key`.

    Source: `Utils.toPositive(Utils.murmur2(key)) % partitions`, Apache Kafka `BuiltInPartitioner`.
    """
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit MurmurHash2 (Apache Kafka `Utils.murmur2`, seed 0x9747b28c)."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(data)
    whole = len(data) & ~3
    for i in range(0, whole, 4):
        k = (int.from_bytes(data[i : i + 4], "little") * m) & mask
        k = ((k ^ (k >> 24)) * m) & mask
        h = ((h * m) & mask) ^ k
    tail = data[whole:]
    if tail:
        h = ((h ^ int.from_bytes(tail, "little")) * m) & mask
    h = ((h ^ (h >> 13)) * m) & mask
    return h ^ (h >> 15)
