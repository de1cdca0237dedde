"""streams/topics.py: which topics a pipeline has, and what Kafka must let into them."""

from __future__ import annotations

from streams import topics
from streams.plan import compile_plan
from tests.support.shop import shop

PLAN = compile_plan(shop("my-shop"))
BY_ROLE = {topic.role: topic for topic in topics.topics(PLAN)}


def test_the_topics_stand_in_the_order_of_the_flow() -> None:
    assert [topic.role for topic in topics.topics(PLAN)] == [
        "raw",
        "events",
        "quarantine",
        "order.changelog",
        "customer.changelog",
        "lane.changelog",
        "changes",
        "decisions",
        "reviews",
        "actions",
        "audit",
    ]


def test_a_name_is_the_pipeline_and_the_role() -> None:
    assert topics.topic_name(PLAN, topics.ACTIONS) == "my-shop.actions"
    assert topics.topic_name(PLAN, topics.changelog("order")) == "my-shop.order.changelog"


def test_what_is_state_is_compacted_and_what_is_history_is_kept() -> None:
    compacted = {role for role, topic in BY_ROLE.items() if topic.config.get("cleanup.policy") == "compact"}
    assert compacted == {"order.changelog", "customer.changelog", "lane.changelog", "reviews"}
    kept = {role for role, topic in BY_ROLE.items() if topic.config.get("retention.ms") == "-1"}
    assert kept == {"events", "changes", "decisions", "actions", "audit"}
    assert BY_ROLE["raw"].config["retention.ms"] == str(7 * 24 * 3600 * 1000)
    assert BY_ROLE["quarantine"].config["retention.ms"] == str(30 * 24 * 3600 * 1000)


def test_what_comes_in_can_go_out() -> None:
    limits = {role: int(topic.config["max.message.bytes"]) for role, topic in BY_ROLE.items()}
    assert limits["raw"] == topics.MAX_RECORD_BYTES
    # A refused record is the record and the headers that say why.
    assert limits["quarantine"] >= limits["raw"] + (64 << 10)
    # A body of just the allowed size becomes an event, and lands in a row, a timer and a context.
    assert min(limits.values()) >= limits["raw"]


def test_the_time_at_which_a_record_came_is_the_brokers() -> None:
    assert BY_ROLE["raw"].config["message.timestamp.type"] == "LogAppendTime"


def test_everybody_is_told_what_a_topic_is_for() -> None:
    assert all(topic.about and topic.key and topic.written_by for topic in topics.topics(PLAN))
