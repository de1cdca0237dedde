"""streams/connections.py on a real broker: a connection that breaks is an error after which aiokafka tries again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError
from aiokafka.protocol.metadata import MetadataRequest

from streams import connections
from streams.settings import KafkaSettings

pytestmark = pytest.mark.broker
connections.mend()


@asynccontextmanager
async def connected(kafka: KafkaSettings) -> AsyncIterator[tuple[Any, Any]]:
    """A client and its connection to the node that it asks."""
    client = AIOKafkaClient(**kafka.client_options())
    await client.bootstrap()
    try:
        yield client, await client._get_conn(client.get_random_node())
    finally:
        await client.close()


def test_a_request_on_a_transport_that_uvloop_has_closed(kafka: KafkaSettings) -> None:
    async def send() -> None:
        async with connected(kafka) as (_, connection):
            connection._writer.transport.abort()
            # uvloop closes it now; aiokafka hears of it in the next turn.
            await asyncio.sleep(0)
            with pytest.raises(KafkaConnectionError, match="the handler is closed"):
                await connection.send(MetadataRequest([]))
            # It is given up: the next request makes a new one.
            assert not connection.connected()

    uvloop.run(send())


async def test_a_coordinator_is_asked_for_while_the_connection_breaks(kafka: KafkaSettings) -> None:
    async with connected(kafka) as (client, connection):
        asked = asyncio.create_task(client.coordinator_lookup(CoordinationType.TRANSACTION, "x"))
        async with asyncio.timeout(10):
            while not connection._requests:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)
        connection.close()
        with pytest.raises(NodeNotReadyError, match="closed"):
            await asked
        # And then there is one.
        assert await client.coordinator_lookup(CoordinationType.TRANSACTION, "x") >= 0
