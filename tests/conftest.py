"""What the whole suite shares: one real broker, and what is left when one dies."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from streams.broker import Broker, BrokerError
from streams.settings import KafkaSettings

# Machines are shared: how long an example takes says nothing about the code. The whole test has its time-out.
settings.register_profile("midstream", deadline=None)
settings.load_profile("midstream")


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """An embedded broker for the whole run, one for all xdist workers: use topic names of your own.

    The settings have `.bootstrap` and `.client_options()`. Every worker is an owner of the broker, so that it ends
    with the last of them, also when they are killed.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    broker = Broker(shared / "kafka")
    with (shared / "kafka.users").open("w") as users:
        with _one_at_a_time(shared):
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                broker.join()
            except BrokerError:
                broker.start(attached=True)
        yield broker.settings()
        with _one_at_a_time(shared):
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                broker.leave()
            else:
                broker.stop()
                shutil.rmtree(broker.folder.root)


@pytest.fixture(autouse=True)
def mourned(request: pytest.FixtureRequest) -> Iterator[None]:
    """aiokafka forgets to close a connection when it is cancelled, or its broker dies, while it connects: such ones are
    of the test that did that, and not of the one in which the collector happens to find them.
    """
    yield
    group = request.node.get_closest_marker("xdist_group")
    killed = group is not None and group.args == ("brokers",)
    if killed or request.node.get_closest_marker("cancels") is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@contextlib.contextmanager
def _one_at_a_time(shared: Path) -> Iterator[None]:
    with (shared / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
