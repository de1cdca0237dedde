"""What can happen to data behind Midstream's back: records deleted, topics made anew, files damaged, disks full."""

import asyncio
from pathlib import Path

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined] # only its __all__ forgot them
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from streams import kafka as door
from streams.settings import KafkaSettings
from streams.topics import Topic
from tests.support.topics import consumer, wait_until


def delete_before(kafka: KafkaSettings, topic: str, partition: int, offset: int) -> None:
    """Delete the records of a partition before `offset`, as retention does."""
    admin = AdminClient({**kafka.librdkafka_options()})
    (done,) = admin.delete_records([TopicPartition(topic, partition, offset)]).values()
    assert done.result(30).low_watermark == offset


def cut(kafka: KafkaSettings, changelog: str, partition: int, offset: int) -> None:
    """The same to a changelog, which Kafka allows only when it is no longer purely compacted."""
    entry = ConfigEntry("cleanup.policy", "compact,delete", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, changelog, incremental_configs=[entry])
    admin = AdminClient({**kafka.librdkafka_options()})
    (altered,) = admin.incremental_alter_configs([resource]).values()
    altered.result(30)

    def deleted() -> bool:
        try:
            delete_before(kafka, changelog, partition, offset)
        except KafkaException:
            # The broker has not heard of the new policy.
            return False
        return True

    wait_until(deleted, f"{changelog} to be cut", 20)


def make_anew(kafka: KafkaSettings, topic: str, partitions: int) -> None:
    """Delete a topic and create it again: the same name, and nothing in it."""
    admin = AdminClient({**kafka.librdkafka_options()})
    (done,) = admin.delete_topics([topic]).values()
    done.result(30)
    reader = consumer(kafka)
    wait_until(lambda: topic not in reader.list_topics(timeout=10).topics, f"{topic} to be gone", 20)
    reader.close()
    prefix, _, role = topic.partition(".")
    wanted = [Topic(role, "", "", "", {"cleanup.policy": "compact"} if "changelog" in role else {})]
    asyncio.run(door.create_topics(kafka.client_options(), prefix, wanted, partitions, 1))


def damage(folder: Path) -> None:
    """Turn round some bytes in the middle of every table of a database."""
    tables = list(folder.glob("*.sst"))
    assert tables, f"{folder} holds no tables"
    for file in tables:
        body = bytearray(file.read_bytes())
        third = len(body) // 3
        body[third : third + 200] = bytes(byte ^ 0xFF for byte in body[third : third + 200])
        file.write_bytes(body)
