"""Connections that break: two places where aiokafka takes a broker that has gone away for a bug of its own, mended.

Its tasks try again after a `KafkaError` that is retriable, and end for good after anything else. What then waits for
them waits for ever: a lane for its acknowledgements, until the watchdog ends the process.
"""

from __future__ import annotations

from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

_send, _lookup = AIOKafkaConnection.send, AIOKafkaClient.coordinator_lookup
# What is replaced, for `check_pins`.
REPLACED = {"send": _send, "coordinator_lookup": _lookup}


def send(self: Any, request: Any, expect_response: bool = True) -> Any:
    """As aiokafka does, also on a transport that has just been closed: there uvloop raises what asyncio does not."""
    try:
        return _send(self, request, expect_response)
    except RuntimeError as error:
        self.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
        raise KafkaConnectionError(f"Connection at {self.host}:{self.port} broken: {error}") from error


async def coordinator_lookup(self: Any, kind: Any, key: str) -> Any:
    """As aiokafka does; a connection that breaks meanwhile is a node that is not ready: producers then ask again."""
    try:
        return await _lookup(self, kind, key)
    except KafkaConnectionError as error:
        raise NodeNotReadyError(str(error)) from error


def mend() -> None:
    """Put them in place, for every client of the process."""
    AIOKafkaConnection.send = send
    AIOKafkaClient.coordinator_lookup = coordinator_lookup
