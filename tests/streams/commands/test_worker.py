"""`midstream worker`: it says when it is ready, stops cleanly, and says in one line why it cannot run."""

import signal
import socket
from pathlib import Path

import pytest

from streams.settings import KafkaSettings
from tests.support.desk import Desk

pytestmark = pytest.mark.broker


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_that_it_is_ready_and_stops_on_a_signal(
    broker: KafkaSettings, tmp_path: Path, number: signal.Signals
) -> None:
    desk = Desk(broker, tmp_path)
    assert desk.run("topics", "create", "--partitions", "2").returncode == 0

    desk.start("--home", str(tmp_path / "state"), "--playback")
    assert desk.worker is not None
    desk.worker.send_signal(number)

    assert desk.worker.wait(30) == 0
    assert desk.log.read_text() == f"{desk.name}: ready, 4 lanes run on {broker.bootstrap}\n"
    assert any((tmp_path / "state").iterdir())


def test_topics_that_are_missing_are_a_mistake(broker: KafkaSettings, tmp_path: Path) -> None:
    run = Desk(broker, tmp_path).run("worker")

    assert run.returncode == 78
    assert "midstream topics create" in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_port_that_is_taken_is_a_mistake(broker: KafkaSettings, tmp_path: Path) -> None:
    desk = Desk(broker, tmp_path)
    assert desk.run("topics", "create", "--partitions", "1").returncode == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = desk.run("worker", "--metrics-port", str(port))

    assert run.returncode == 78
    assert run.stderr == f"midstream: --metrics-port {port} is taken: choose another, or 0 for none\n"
