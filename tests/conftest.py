"""What the whole suite shares: one real broker, started when the first test asks for it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import Broker, BrokerError
from streams.settings import KafkaSettings


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


@contextlib.contextmanager
def _one_at_a_time(shared: Path) -> Iterator[None]:
    with (shared / "kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
