"""docker-compose.yml -> a file that compose accepts, whose services, settings and commands exist.

No container engine is needed. What an engine would do with the brokers' settings is tried with Kafka itself: the
last test runs the three nodes, as the file configures them, as processes of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from compose_spec import PyOptions

from streams.embedded.kafka_jars import KAFKA_VERSION
from streams.embedded.launch import java_command
from streams.settings import KafkaSettings

ROOT = Path(__file__).parents[1]
COMPOSE = ROOT / "docker-compose.yml"
DOCKERFILE = ROOT / "docker" / "Dockerfile"
NODES = ("kafka-1", "kafka-2", "kafka-3")

Service = dict[str, Any]

# The image's start script turns every KAFKA_… into a line of server.properties, but for those that it reads itself.
NOT_PROPERTIES = {"CLUSTER_ID", "KAFKA_HEAP_OPTS"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """The file with its anchors merged."""
    parsed: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return parsed


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, Service]:
    """Every service by its name."""
    found: dict[str, Service] = compose["services"]
    return found


@pytest.fixture(scope="module")
def ours(services: dict[str, Service]) -> dict[str, Service]:
    """The services that run the product: those with an image that is built here."""
    return {name: service for name, service in services.items() if "build" in service}


def properties(service: Service) -> dict[str, str]:
    """What the image makes of a broker's environment: KAFKA_NODE_ID is node.id."""
    return {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value
        for name, value in service["environment"].items()
        if name not in NOT_PROPERTIES
    }


# --- the file ----------------------------------------------------------------------------------------------------


def test_the_file_is_what_the_compose_specification_allows() -> None:
    parsed = PyOptions(apply_merge=True).from_yaml(COMPOSE.read_text(encoding="utf-8"))

    assert set(parsed.service_names()) == {*NODES, "topics", "worker", "projector", "play"}


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("    healthchek: {}\n", "healthchek"),
        ("    restart: sometimes\n", "sometimes"),
        ('    ports: ["127.0.0.1:99999:80"]\n', "99999"),
        ("    depends_on: { b: { condition: service_helthy } }\n", "service_helthy"),
    ],
)
def test_the_parser_refuses_what_compose_would_refuse(wrong: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        PyOptions(apply_merge=True).from_yaml(f"services:\n  a:\n    image: a\n{wrong}  b:\n    image: b\n")


def test_the_docker_client_reads_the_file() -> None:
    if not compose_plugin():
        pytest.skip("the docker client with its compose plugin is not installed")

    checked = subprocess.run(
        ["docker", "compose", "--file", COMPOSE, "--profile", "*", "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stderr


def compose_plugin() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0


def test_every_service_that_is_waited_for_exists_and_can_reach_that_state(
    services: dict[str, Service],
) -> None:
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            assert other in services, f"{name} waits for {other}, which is no service"
            assert "profiles" not in services[other], (
                f"{name} waits for {other}, which only its profile starts"
            )
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in services[other], (
                    f"{name} waits for {other} to be healthy: nothing checks it"
                )
            if wait["condition"] == "service_completed_successfully":
                restart = services[other].get("restart", "no")
                assert restart in ("no", "on-failure"), (
                    f"{name} waits for the end of {other}, which never ends"
                )


def test_volumes_are_declared_used_and_owned_by_one_service(compose: dict[str, Any]) -> None:
    mounts = [
        (volume.split(":")[0], name)
        for name, service in compose["services"].items()
        for volume in service.get("volumes", [])
    ]
    used = [volume for volume, _ in mounts]

    assert set(used) == set(compose["volumes"])
    # Two brokers, or two writers of one snapshot, in one folder destroy each other's files.
    assert len(used) == len(set(used)), mounts


def test_published_ports_are_distinct_and_on_loopback(services: dict[str, Service]) -> None:
    published = [port.rsplit(":", 2) for service in services.values() for port in service.get("ports", [])]
    ports = [port for _, port, _ in published]

    assert {host for host, _, _ in published} == {"127.0.0.1"}
    assert len(ports) == len(set(ports)) == 3


# --- the brokers -------------------------------------------------------------------------------------------------


def test_the_nodes_differ_in_their_own_name_and_addresses_alone(services: dict[str, Service]) -> None:
    def common(node: str) -> Service:
        own = {"KAFKA_NODE_ID", "KAFKA_ADVERTISED_LISTENERS"}
        environment = {
            name: value for name, value in services[node]["environment"].items() if name not in own
        }
        return services[node] | {"environment": environment, "ports": None, "volumes": None}

    assert common("kafka-1") == common("kafka-2") == common("kafka-3")
    assert common("kafka-1")["image"] == f"apache/kafka:{KAFKA_VERSION}"


def test_every_node_is_a_voter_and_knows_all_voters(services: dict[str, Service]) -> None:
    for node in NODES:
        settings = properties(services[node])
        voters = dict(voter.split("@") for voter in settings["controller.quorum.voters"].split(","))

        assert sorted(voters) == ["1", "2", "3"]
        assert voters[settings["node.id"]] == f"{node}:9093"
        assert set(settings["process.roles"].split(",")) == {"broker", "controller"}


def test_advertised_addresses_are_the_ones_that_are_listened_on_and_published(
    services: dict[str, Service],
) -> None:
    for node in NODES:
        settings = properties(services[node])
        listeners = dict(entry.split("://:") for entry in settings["listeners"].split(","))
        advertised = dict(entry.split("://") for entry in settings["advertised.listeners"].split(","))
        _, outside, inside = services[node]["ports"][0].split(":")

        assert advertised["INTERNAL"] == f"{node}:{listeners['INTERNAL']}"
        assert advertised["EXTERNAL"] == f"localhost:{outside}"
        assert inside == listeners["EXTERNAL"]
        assert set(listeners) == {
            entry.split(":")[0] for entry in settings["listener.security.protocol.map"].split(",")
        }


def test_a_broker_may_be_lost_without_losing_or_stopping_anything(services: dict[str, Service]) -> None:
    settings = properties(services["kafka-1"])
    replicated = {name: value for name, value in settings.items() if name.endswith("replication.factor")}
    in_sync = {
        name: value for name, value in settings.items() if name.endswith(("min.isr", "min.insync.replicas"))
    }

    assert len(replicated) == 4
    assert set(replicated.values()) == {"3"}
    assert len(in_sync) == 3
    assert set(in_sync.values()) == {"2"}


def test_a_broker_keeps_its_data_on_its_volume(services: dict[str, Service]) -> None:
    for node in NODES:
        assert services[node]["volumes"] == [f"{node}:{properties(services[node])['log.dirs']}"]


# --- our services ------------------------------------------------------------------------------------------------


def test_our_services_share_one_image_built_from_a_dockerfile_that_is_there(ours: dict[str, Service]) -> None:
    assert set(ours) == {"topics", "worker", "projector", "play"}
    assert {service["image"] for service in ours.values()} == {"midstream:local"}
    assert {service["build"]["dockerfile"] for service in ours.values()} == {
        str(DOCKERFILE.relative_to(ROOT))
    }
    assert DOCKERFILE.is_file()


def test_what_the_dockerfile_copies_is_there_and_sent_to_the_engine() -> None:
    copied = re.findall(r"^COPY (.+) \S+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()

    for source in [source for sources in copied for source in sources.split()]:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in sent, source


def test_every_variable_of_our_services_is_a_setting(ours: dict[str, Service]) -> None:
    known = {f"KAFKA_{field.upper()}" for field in KafkaSettings.model_fields} | {
        "MIDSTREAM_HOME",
        "MIDSTREAM_CACHE",
    }

    for name, service in ours.items():
        assert set(service["environment"]) <= known, name


def test_our_services_reach_the_brokers_by_the_internal_listener(
    ours: dict[str, Service], services: dict[str, Service]
) -> None:
    advertised = {
        properties(services[node])["advertised.listeners"].split(",")[0].removeprefix("INTERNAL://")
        for node in NODES
    }

    for name, service in ours.items():
        settings = KafkaSettings(bootstrap=service["environment"]["KAFKA_BOOTSTRAP"])
        assert settings.bootstrap is not None
        assert set(settings.bootstrap.split(",")) == advertised, name


def test_every_command_is_one_of_the_command_line(ours: dict[str, Service]) -> None:
    assert 'ENTRYPOINT ["midstream"]' in DOCKERFILE.read_text(encoding="utf-8")

    for name, service in ours.items():
        command = service["command"]
        words = list(
            takewhile(lambda word: not word.startswith("-") and not (ROOT / word).is_file(), command)
        )
        options = {word.partition("=")[0] for word in command if word.startswith("--")}
        helped = subprocess.run(
            [sys.executable, "-m", "streams.cli", *words, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
        )
        assert helped.returncode == 0, f"{name}: midstream {' '.join(words)}: {helped.stdout}{helped.stderr}"
        unknown = options - set(re.findall(r"--[a-z-]+", helped.stdout))
        assert not unknown, f"{name}: midstream {' '.join(words)} has no {unknown}"


def test_files_on_a_command_line_are_in_the_image(ours: dict[str, Service]) -> None:
    files = [word for service in ours.values() for word in service["command"] if word.endswith(".py")]

    assert files
    assert all((ROOT / file).is_file() for file in files)


# --- the three nodes, for real -----------------------------------------------------------------------------------


@pytest.mark.broker
@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.xdist_group("brokers")
async def test_three_nodes_with_these_settings_take_writes_while_one_is_dead(
    services: dict[str, Service], tmp_path: Path
) -> None:
    ports = free_ports(9)
    with contextlib.ExitStack() as running:
        nodes = [running.enter_context(node(services[name], ports, tmp_path / name)) for name in NODES]
        bootstrap = ",".join(address(ports, name, "INTERNAL") for name in NODES)
        admin = await until_answering(lambda: AIOKafkaAdminClient(bootstrap_servers=bootstrap), nodes)
        try:
            # -1: as many replicas as the cluster says (aiokafka takes it only beside an assignment, if an empty one).
            await admin.create_topics(
                [NewTopic("kept", num_partitions=3, replication_factor=-1, replica_assignments={})]
            )
            [topic] = await admin.describe_topics(["kept"])
        finally:
            await admin.close()
        assert sorted(topic["partitions"][0]["replicas"]) == [1, 2, 3]

        nodes[0].kill()
        # acks=all: min.insync.replicas must be met by the two that are left, for data and for transactions.
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id="compose", acks="all")
        await asyncio.wait_for(producer.start(), 90)
        try:
            async with producer.transaction():
                sent = [await producer.send("kept", b"value", partition=number) for number in range(3)]
            offsets = [(await future).offset for future in sent]
        finally:
            await producer.stop()
        assert offsets == [0, 0, 0]


Ports = Mapping[tuple[str, str], int]


def free_ports(count: int) -> dict[tuple[str, str], int]:
    """A free port for each listener of each node."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        listeners = [
            (name, listener) for name in NODES for listener in ("INTERNAL", "CONTROLLER", "EXTERNAL")
        ]
        return dict(zip(listeners, [free.getsockname()[1] for free in sockets], strict=True))


def address(ports: Ports, name: str, listener: str) -> str:
    return f"127.0.0.1:{ports[name, listener]}"


@contextlib.contextmanager
def node(service: Service, ports: Ports, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """One broker as the file configures it, but for its folder and for addresses of this machine."""
    folder.mkdir()
    settings = properties(service)
    listeners = ",".join(
        f"{listener}://{address(ports, folder.name, listener)}"
        for listener in ("INTERNAL", "CONTROLLER", "EXTERNAL")
    )
    settings |= {
        "log.dirs": str(folder / "data"),
        "listeners": listeners,
        "advertised.listeners": listeners.replace(
            f"CONTROLLER://{address(ports, folder.name, 'CONTROLLER')},", ""
        ),
        "controller.quorum.voters": ",".join(
            f"{number}@{address(ports, name, 'CONTROLLER')}" for number, name in enumerate(NODES, start=1)
        ),
    }
    written = folder / "server.properties"
    written.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), encoding="utf-8")
    java, *options = java_command()
    cluster = service["environment"]["CLUSTER_ID"]
    format_command = [
        "kafka.tools.StorageTool",
        "format",
        f"--cluster-id={cluster}",
        "--config",
        str(written),
    ]
    subprocess.run([java, *options, *format_command], check=True, capture_output=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [java, "-Xmx256m", *options, "kafka.Kafka", str(written)], stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


async def until_answering(make_admin: Any, nodes: list[subprocess.Popen[bytes]]) -> Any:
    """An admin client of the cluster, once all three nodes have joined it."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        assert all(process.poll() is None for process in nodes), "a node ended while starting"
        admin = make_admin()
        with contextlib.suppress(OSError, RuntimeError):
            await admin.start()
            if len((await admin.describe_cluster())["brokers"]) == len(nodes):
                return admin
        await admin.close()
        await asyncio.sleep(0.5)
    raise AssertionError("the three nodes did not find each other in 90 s")
