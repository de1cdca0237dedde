"""Which error becomes which exit code, and that the line is one line."""

import pytest
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError

from streams.cluster import NoTopicError
from streams.embedded.folder import BrokerError
from streams.embedded.java import JavaError
from streams.embedded.kafka_jars import JarError
from streams.failures import told
from streams.quarantine import NotRedrivenError
from streams.reviews import ReviewError, UnreadError
from streams.settings import SettingsError
from streams.signatures import PipelineError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PipelineError("f: expected x"), 78),
        (SettingsError("KAFKA_BOOTSTRAP"), 78),
        (NoTopicError("no topic"), 78),
        (BrokerError("not running"), 69),
        (JarError("wrong hash"), 69),
        (JavaError("none"), 69),
        (KafkaConnectionError("away"), 69),
        (TopicAuthorizationFailedError("t"), 69),
        (ConnectionRefusedError(111, "refused"), 69),
        (OSError(28, "No space left on device"), 69),
        (TimeoutError(), 69),
        (UnreadError("no worker"), 69),
        (ReviewError("not open"), 1),
        (NotRedrivenError("a timer"), 1),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_that_a_person_can_mend_has_a_code_and_a_line(error: BaseException, code: int) -> None:
    known = told(error)

    assert known is not None
    assert known[0] == code
    assert known[1].strip()
    assert "\n" not in known[1]


def test_line_breaks_are_joined() -> None:
    assert told(PipelineError("a\n  b")) == (78, "a b")


def test_a_broker_that_does_not_answer_is_named_by_its_address() -> None:
    error = KafkaConnectionError("Unable to bootstrap from [('kafka', 9092, <AddressFamily.AF_UNSPEC: 0>)]")

    assert told(error) == (69, "Kafka does not answer at kafka:9092. See: midstream doctor")


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), AssertionError(), RuntimeError("x")])
def test_a_bug_is_none_of_them(error: Exception) -> None:
    assert told(error) is None
