"""A real Kafka: started, stopped, killed, abandoned, asked; and what is in it after each."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownTopicOrPartitionError, for_code

from streams.broker import Broker, BrokerError, BrokerStatus
from streams.embedded.kafka_jars import KAFKA_VERSION, kafka_jars
from streams.embedded.process import started_at
from streams.settings import KafkaSettings, cache_home
from tests.support.lanes import ended

pytestmark = [pytest.mark.broker, pytest.mark.timeout(180), pytest.mark.xdist_group("brokers")]

ROOT = Path(__file__).parents[2]
CLI = [sys.executable, "-c", "from streams.commands.broker import app; app()"]
# Nothing listens on port 9: whoever wanted to fetch something would fail.
OFFLINE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data folder of its own, with a space and a non-ASCII letter; what still runs there is stopped at the end."""
    folder = tmp_path / "Übung 1"
    yield folder
    Broker(folder).stop()
    shutil.rmtree(folder, ignore_errors=True)


async def create_topic(settings: KafkaSettings, topic: str) -> None:
    admin = AIOKafkaAdminClient(**settings.client_options())
    await admin.start()
    try:
        answer = await admin.create_topics([NewTopic(topic, 1, 1)])
        for _, code, message in answer.topic_errors:
            assert code == 0, message
    finally:
        await admin.close()


async def transact(settings: KafkaSettings, topic: str, values: Sequence[bytes], *, commit: bool) -> None:
    producer = AIOKafkaProducer(
        **settings.client_options(), transactional_id=f"{topic}-writer", max_request_size=32 << 20
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        for value in values:
            await producer.send_and_wait(topic, value, key=b"key", partition=0)
        await (producer.commit_transaction() if commit else producer.abort_transaction())
    finally:
        await producer.stop()
    # Killed before every partition has heard of it, this Kafka forgets to tell them (streams/leftovers.py).
    await ended(settings.client_options(), f"{topic}-writer")


async def committed(settings: KafkaSettings, topic: str, count: int) -> list[bytes]:
    """The first `count` records under read_committed, and whatever follows them at once."""
    consumer = AIOKafkaConsumer(
        **settings.client_options(), isolation_level="read_committed", max_partition_fetch_bytes=32 << 20
    )
    await consumer.start()
    try:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        values: list[bytes] = []
        while len(values) < count:
            values += [
                record.value for record in (await consumer.getmany(timeout_ms=10_000)).get(partition, ())
            ]
        rest = await consumer.getmany(timeout_ms=300)
        return values + [record.value for records in rest.values() for record in records]
    finally:
        await consumer.stop()


async def fill(settings: KafkaSettings, topic: str) -> None:
    """A committed transaction, an aborted one, a committed one: `read_committed` gives b"1", b"2"."""
    await create_topic(settings, topic)
    await transact(settings, topic, [b"1"], commit=True)
    await transact(settings, topic, [b"never"], commit=False)
    await transact(settings, topic, [b"2"], commit=True)


def cli(*arguments: str, data: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command, *rest = arguments
    return subprocess.run(
        [*CLI, command, "--data", str(data), *rest],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        timeout=120,
        env={**os.environ, **environment},
    )


def wait_until_gone(pid: int, within_s: float = 25.0) -> None:
    deadline = time.monotonic() + within_s
    while started_at(pid) is not None:
        assert time.monotonic() < deadline, f"process {pid} is still there"
        time.sleep(0.02)


def wait_until_stopped(pid: int, within_s: float = 25.0) -> None:
    """A signal stops a process's threads one after the other; until the last one has stopped, it may answer."""
    deadline = time.monotonic() + within_s
    threads = Path(f"/proc/{pid}/task")
    while {path.read_text().rsplit(") ", 1)[1][0] for path in threads.glob("*/stat")} != {"T"}:
        assert time.monotonic() < deadline, f"process {pid} still runs"
        time.sleep(0.02)


def wait_until_missing(path: Path) -> None:
    deadline = time.monotonic() + 5.0
    while path.exists():
        assert time.monotonic() < deadline, f"{path} was not removed"
        time.sleep(0.02)


def pid_of(status: BrokerStatus) -> int:
    assert status.pid is not None
    return status.pid


def test_what_was_committed_survives_a_restart_at_the_same_address(data: Path) -> None:
    broker = Broker(data, notice=pytest.fail)
    first = broker.start()
    assert first.state == "running"
    assert first.rss_bytes is not None
    asyncio.run(fill(broker.settings(), "restart"))

    assert broker.stop() is True
    assert started_at(pid_of(first)) is None
    assert broker.status().state == "stopped"
    with pytest.raises(BrokerError, match="is not running"):
        broker.settings()

    # Another object for the same folder, as another process has it.
    second = Broker(data, notice=pytest.fail).start()
    assert (second.bootstrap, second.cluster_id) == (first.bootstrap, first.cluster_id)
    assert asyncio.run(committed(broker.settings(), "restart", 2)) == [b"1", b"2"]


def test_a_killed_owner_leaves_no_broker_and_no_damage(data: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from streams.broker import Broker
print(Broker(Path({str(data)!r})).start(attached=True).pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        broker = Broker(data, notice=pytest.fail)
        assert broker.status().attached
        asyncio.run(fill(broker.settings(), "abandoned"))

        owner.kill()

    wait_until_gone(pid)
    # The guard ended it in order and says so, so that the next start has nothing to tell of a crash.
    wait_until_missing(broker.folder.pid_file)
    broker.start(attached=True)
    assert asyncio.run(committed(broker.settings(), "abandoned", 2)) == [b"1", b"2"]


def test_an_attached_broker_lives_for_its_last_owner(data: Path) -> None:
    first, second = Broker(data), Broker(data)
    status = first.start(attached=True)

    assert second.join().state == "running"
    first.leave()
    time.sleep(0.5)
    assert second.status().state == "running"

    second.leave()
    wait_until_gone(pid_of(status))


def test_a_killed_broker_is_seen_said_and_started_again(data: Path) -> None:
    notices: list[str] = []
    broker = Broker(data, notice=notices.append)
    pid = pid_of(broker.start(attached=True))
    asyncio.run(fill(broker.settings(), "killed"))

    os.kill(pid, signal.SIGKILL)
    wait_until_gone(pid)

    crashed = broker.status()
    assert crashed.state == "crashed"
    assert str(crashed.log) in crashed.detail
    broker.start(attached=True)
    assert notices == [
        f"the last run (pid {pid}) ended without a clean stop: Kafka checks its data while starting"
    ]
    assert asyncio.run(committed(broker.settings(), "killed", 2)) == [b"1", b"2"]


def test_a_stopped_process_is_unresponsive_and_still_ended(data: Path) -> None:
    notices: list[str] = []
    broker = Broker(data, notice=notices.append)
    pid = pid_of(broker.start(attached=True))

    os.kill(pid, signal.SIGSTOP)
    wait_until_stopped(pid)

    status = broker.status()
    assert status.state == "unresponsive"
    assert "runs but does not answer at" in status.detail
    assert broker.stop(timeout_s=1.0) is True
    assert notices == [f"the broker (pid {pid}) did not end within 1 s of SIGTERM: killing it"]
    assert started_at(pid) is None


def test_two_brokers_on_one_folder_are_refused_even_when_the_record_is_lost(data: Path) -> None:
    broker = Broker(data)
    pid = pid_of(broker.start(attached=True))
    with pytest.raises(BrokerError, match=rf"a broker \(pid {pid}\) is already running in"):
        Broker(data).start(attached=True)

    record = broker.folder.pid_file.read_bytes()
    broker.folder.pid_file.unlink()
    with pytest.raises(BrokerError, match=rf"{data} is in use: .* a broker runs whose broker\.pid was lost"):
        Broker(data, port=0).start()
    broker.folder.pid_file.write_bytes(record)
    assert broker.status().state == "running"


def test_a_wrong_jar_is_named_before_anything_starts(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka_jars()
    cache = tmp_path / "cache"
    shutil.copytree(cache_home() / "kafka" / KAFKA_VERSION, cache / "kafka" / KAFKA_VERSION)
    truncated = cache / "kafka" / KAFKA_VERSION / "kafka-raft-4.3.1.jar"
    truncated.write_bytes(truncated.read_bytes()[:-1])
    monkeypatch.setenv("MIDSTREAM_CACHE", str(cache))

    with pytest.raises(BrokerError, match=rf"wrong hash: kafka-raft-4\.3\.1\.jar .* delete {truncated}"):
        Broker(data).start(attached=True)
    assert Broker(data).status().state == "stopped"


def test_the_second_start_needs_no_network(data: Path) -> None:
    kafka_jars(tools=True)

    started = cli("start", "--json", data=data, **OFFLINE)

    assert started.returncode == 0, started.stderr
    assert json.loads(started.stdout)["state"] == "running"
    assert "fetch" not in started.stderr


def test_the_commands_and_kafkas_own_consumer(data: Path) -> None:
    assert cli("status", data=data).returncode == 3

    started = cli("start", data=data)
    bootstrap = started.stdout.strip()
    assert (started.returncode, started.stdout) == (0, f"{bootstrap}\n"), started.stderr
    again = cli("start", data=data)
    assert (again.returncode, again.stdout) == (0, started.stdout)
    assert "it was started before" in again.stderr

    running = cli("status", "--json", data=data)
    status = json.loads(running.stdout)
    assert running.returncode == 0
    assert (status["state"], status["bootstrap"], status["data"]) == ("running", bootstrap, str(data))

    asyncio.run(fill(Broker(data).settings(), "console"))
    consumed = cli(
        "console-consumer",
        *("--", "--topic", "console", "--from-beginning", "--max-messages", "2"),
        *("--isolation-level", "read_committed", "--formatter-property", "print.key=true"),
        data=data,
        **OFFLINE,
    )
    assert consumed.stdout == "key\t1\nkey\t2\n", consumed.stderr
    assert consumed.returncode == 0

    assert cli("stop", data=data).returncode == 0
    assert started_at(status["pid"]) is None
    assert cli("status", data=data).returncode == 3
    again = cli("stop", data=data)
    assert again.returncode == 0
    assert "no broker is running" in again.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_start_that_is_broken_off_leaves_nothing(data: Path, number: signal.Signals) -> None:
    starting = subprocess.Popen(
        [*CLI, "start", "--data", str(data)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    broker = Broker(data)
    while (record := broker.folder.record()) is None:
        assert starting.poll() is None, starting.communicate()
        time.sleep(0.01)

    starting.send_signal(number)
    output, said = starting.communicate(timeout=30)

    wait_until_gone(record.pid)
    assert output == ""
    if number != signal.SIGKILL:
        assert (starting.returncode, said.splitlines()[-1]) == (
            130,
            "interrupted: no process was left behind",
        )
        assert broker.folder.record() is None


def test_a_server_that_refuses_its_settings_is_one_line_and_its_log(data: Path) -> None:
    wrong = Broker(data, properties={"num.io.threads": "many"})
    with pytest.raises(BrokerError) as refused:
        wrong.start(attached=True)
    assert str(refused.value) == (
        f"Kafka could not format {data}/kafka (exit code 1): ConfigException: Invalid value many for configuration"
        f" num.io.threads: Not a number of type INT; see {data}/logs/console.log"
    )

    # Formatted, it is the server itself that refuses.
    right = Broker(data)
    right.start(attached=True)
    right.stop()
    with pytest.raises(BrokerError) as refused:
        wrong.start(attached=True)
    assert str(refused.value) == (
        f"the broker in {data} ended while starting: ConfigException: Invalid value many for configuration"
        f" num.io.threads: Not a number of type INT; see {data}/logs/server.log"
    )
    assert any("ConfigException" in line for line in refused.value.log_tail)


class TestSharedBroker:
    """What the suite's own broker is set up to do."""

    def test_oversized_records_reach_us(self, kafka: KafkaSettings) -> None:
        body = os.urandom(20 << 20)

        async def there_and_back() -> list[bytes]:
            await create_topic(kafka, "lifecycle.large")
            await transact(kafka, "lifecycle.large", [body], commit=True)
            return await committed(kafka, "lifecycle.large", 1)

        assert asyncio.run(there_and_back()) == [body]

    def test_a_misspelt_topic_is_not_made(self, kafka: KafkaSettings) -> None:
        async def ask() -> tuple[int, list[str]]:
            admin = AIOKafkaAdminClient(**kafka.client_options())
            await admin.start()
            try:
                (topic,) = await admin.describe_topics(["lifecycle.misspelt"])
                return topic["error_code"], await admin.list_topics()
            finally:
                await admin.close()

        code, topics = asyncio.run(ask())

        assert for_code(code) is UnknownTopicOrPartitionError
        assert "lifecycle.misspelt" not in topics
        assert {"__consumer_offsets", "__transaction_state"} <= set(topics)
