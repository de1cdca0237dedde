"""Topics as they are: retention in words, and partition counts that do not fit."""

import pytest

from streams.inventory import TopicState, retention, uneven

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"cleanup.policy": "compact"}, "the last of each key"),
        ({"cleanup.policy": "compact,delete", "retention.ms": "1000"}, "the last of each key"),
        ({"retention.ms": "-1"}, "for ever"),
        ({"cleanup.policy": "delete", "retention.ms": str(7 * DAY_MS)}, "7 d"),
        ({"retention.ms": "5400000"}, "1.5 h"),
        ({}, "7 d"),
    ],
)
def test_retention_in_words(config: dict[str, str], words: str) -> None:
    assert retention(config) == words


def state(role: str, partitions: int) -> TopicState:
    return TopicState(
        f"p.{role}", role, "key", "us", "about", partitions, [2] * partitions, [5] * partitions, "7 d"
    )


@pytest.mark.parametrize(
    ("counts", "wrong"),
    [
        ({"raw": 4, "events": 4, "actions": 4}, ""),
        ({"raw": 9, "events": 4, "actions": 4}, ""),
        ({"raw": 4, "events": 4, "actions": 0}, ""),
        ({"raw": 4, "events": 0, "actions": 4}, ""),
        (
            {"raw": 4, "events": 4, "actions": 3},
            "p.actions has 3 partitions, p.events has 4: recreate it with 4",
        ),
    ],
    ids=str,
)
def test_only_raw_may_have_another_number_of_partitions(counts: dict[str, int], wrong: str) -> None:
    assert uneven([state(role, count) for role, count in counts.items()]) == wrong


def test_how_much_a_topic_holds() -> None:
    assert state("raw", 3).records == 9
