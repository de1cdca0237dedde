"""A broker's address -> does it answer: metadata, and the coordinators that groups and transactions need."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

_GROUP, _TRANSACTION = 0, 1  # FindCoordinator's key types


def is_listening(host: str, port: int) -> bool:
    """Whether something accepts connections there. Asked first: a client's failed connection fills the log."""
    try:
        socket.create_connection((host, port), timeout=0.5).close()
    except OSError:
        return False
    return True


def ask(bootstrap: str, *, timeout_s: float) -> str | None:
    """The cluster id, if the broker answers for its metadata and has both coordinators; else None.

    The first question makes Kafka create the internal topics, so the first client finds them there. May be called
    from anywhere, also under a running event loop: it uses a loop of its own in a thread of its own.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="broker-probe") as thread:
        return thread.submit(asyncio.run, _ask(bootstrap, timeout_s)).result()


async def _ask(bootstrap: str, timeout_s: float) -> str | None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=int(timeout_s * 1000))
    try:
        async with asyncio.timeout(timeout_s):
            await admin.start()
            cluster = await admin.describe_cluster()
            for kind in (_GROUP, _TRANSACTION):
                await admin.find_coordinator("midstream-probe", kind)
    except (KafkaError, TimeoutError, OSError):
        return None
    finally:
        await admin.close()
    return str(cluster["cluster_id"])
