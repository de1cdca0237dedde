"""Raw records, published by librdkafka in the background at a steady rate until `stop`."""

import threading
import time
from collections.abc import Iterable
from random import Random

from schemas.record import Given
from streams.settings import KafkaSettings
from tests.chaos.ledger import entries
from tests.support.topics import murmur2_producer

STEP_S = 0.05


class Load:
    """The world: it goes on whatever happens to the workers and the broker."""

    def __init__(self, kafka: KafkaSettings, pipeline: str, rate: int, seed: int) -> None:
        """Publish about `rate` records a second to the pipeline's raw topic."""
        self.topic, self.rate, self.step = f"{pipeline}.raw", rate, max(1, round(rate * STEP_S))
        self.published = 0
        self.failed: list[str] = []
        self._random = Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._producer = murmur2_producer(kafka)

    def start(self) -> "Load":
        """Begin."""
        self._thread.start()
        return self

    def _publish(self) -> None:
        number = 0
        while not self._stop.is_set():
            self._send(entries(self._random, number, self.step))
            number += self.step
            time.sleep(STEP_S)

    def _send(self, records: Iterable[Given]) -> None:
        for record in records:
            self._producer.produce(
                self.topic,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
                on_delivery=lambda error, message: self.failed.append(str(error)) if error else None,
            )
            self.published += 1
        self._producer.poll(0)

    def stop(self, within_s: float = 60.0) -> int:
        """End; returns how many records Kafka has taken. It fails when Kafka did not take them all."""
        self._stop.set()
        self._thread.join(30)
        left = self._producer.flush(within_s)
        assert (self._thread.is_alive(), left, self.failed) == (False, 0, []), "Kafka did not take the load"
        return self.published
