"""The broker under the benchmark, and topics of its own for every round of every contender.

Back of the envelope: the embedded broker starts in 2 to 4 s and takes 13 % of a core while a lane runs. A round of
200,000 events leaves 110 MB of input, 40 MB of changelog and 60 MB of outputs, deleted a minute after the round.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from streams import kafka
from streams.broker import Broker
from streams.settings import KafkaSettings, SettingsError, load_settings
from streams.topics import Topic

REPLICATION = 1


@contextmanager
def broker(folder: Path) -> Iterator[KafkaSettings]:
    """The broker that KAFKA_BOOTSTRAP names, else an embedded one in `folder` that ends with the block or with us.

    Raises:
        SettingsError: the broker wants TLS or SASL.
        streams.broker.BrokerError: the embedded broker did not start.
    """
    given = load_settings()
    if given.security_protocol != "PLAINTEXT":
        raise SettingsError(
            f"benchmarks: expected a PLAINTEXT broker, got KAFKA_SECURITY_PROTOCOL={given.security_protocol}: "
            f"encryption would be measured too. Unset KAFKA_BOOTSTRAP and KAFKA_SECURITY_PROTOCOL to use the "
            f"embedded one."
        )
    if given.bootstrap is not None:
        yield given
        return
    embedded = Broker(folder)
    try:
        embedded.start(attached=True)
        yield embedded.settings()
    finally:
        embedded.stop()


@contextmanager
def fresh_topics(
    settings: KafkaSettings, name: str, wanted: Sequence[Topic], partitions: int
) -> Iterator[None]:
    """Topics `<name>.<role>` for the block; afterwards every topic of `name` is deleted, also a contender's own."""
    clients = settings.client_options()
    asyncio.run(kafka.create_topics(clients, name, wanted, partitions, REPLICATION))
    try:
        yield
    finally:
        asyncio.run(delete(settings, name))


async def delete(settings: KafkaSettings, name: str) -> None:
    """Delete every topic with `name` in its own: also the changelog that a contender made and called as it likes."""
    async with kafka.admin(settings.client_options()) as client:
        mine = [
            topic for topic in await client.list_topics() if re.search(rf"{re.escape(name)}(?![\w])", topic)
        ]
        if mine:
            await client.delete_topics(mine)
