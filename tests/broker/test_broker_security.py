"""A real Kafka behind TLS and SASL: `KafkaSettings` are all that a client needs to know."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError
from confluent_kafka import Producer
from pydantic import SecretStr

from streams.broker import Broker
from streams.embedded.folder import free_port
from streams.settings import KafkaSettings

pytestmark = [pytest.mark.broker, pytest.mark.xdist_group("brokers")]

# One key and its certificate for 127.0.0.1 stand for both sides and for the authority.
PEM = Path(__file__).with_name("loopback.pem")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a SASL_SSL listener that also asks clients for a certificate; alice's password is s3cret."""
    port, plain, controller = free_port(), free_port(), free_port()
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required user_alice='s3cret';"
    broker = Broker(
        tmp_path_factory.mktemp("secured") / "broker",
        port=plain,
        properties={
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{plain},CONTROLLER://127.0.0.1:{controller},"
            f"SAFE://127.0.0.1:{port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SAFE:SASL_SSL",
            "listener.name.safe.sasl.enabled.mechanisms": "PLAIN",
            "listener.name.safe.plain.sasl.jaas.config": login,
            "listener.name.safe.ssl.client.auth": "required",
            "listener.name.safe.ssl.keystore.type": "PEM",
            "listener.name.safe.ssl.keystore.location": str(PEM),
            "listener.name.safe.ssl.truststore.type": "PEM",
            "listener.name.safe.ssl.truststore.location": str(PEM),
        },
    )
    broker.start(attached=True)
    yield f"127.0.0.1:{port}"
    broker.stop()
    shutil.rmtree(broker.folder.root)


def settings(bootstrap: str, password: str = "s3cret") -> KafkaSettings:
    return KafkaSettings(
        bootstrap=bootstrap,
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="alice",
        sasl_password=SecretStr(password),
        ssl_cafile=PEM,
        ssl_certfile=PEM,
        ssl_keyfile=PEM,
    )


async def topics(which: KafkaSettings) -> list[str]:
    admin = AIOKafkaAdminClient(**which.client_options())
    try:
        await admin.start()
        return list(await admin.list_topics())
    finally:
        await admin.close()


def test_aiokafka_is_let_in(secured: str) -> None:
    assert "__consumer_offsets" in asyncio.run(topics(settings(secured)))


def test_librdkafka_is_let_in(secured: str) -> None:
    metadata = Producer(settings(secured).librdkafka_options()).list_topics(timeout=20)

    assert "__consumer_offsets" in metadata.topics


def test_a_wrong_password_is_not(secured: str) -> None:
    with pytest.raises(KafkaConnectionError):
        asyncio.run(topics(settings(secured, "guessed")))


def test_a_client_that_trusts_others_does_not_go_in(secured: str) -> None:
    trusting = settings(secured).model_copy(update={"ssl_cafile": None})

    with pytest.raises(KafkaConnectionError):
        asyncio.run(topics(trusting))
