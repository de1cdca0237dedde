"""The tables whose rows are records: changes, decisions, actions, reviews, quarantine and audit, column by column."""

from __future__ import annotations

from schemas.action import ActionRecord
from schemas.audit import AuditRecord
from schemas.decision import DecisionRecord
from schemas.review import ReviewRecord
from tables.snapshot_columns import (
    BYTES,
    FLOAT,
    INSTANT,
    JSON,
    SMALL,
    TEXT,
    TRUTH,
    WHOLE,
    Column,
    Table,
    body,
    instant,
    struct,
)

# How much of a refused record's value is kept; `size_bytes` tells how long it was.
VALUE_BYTES = 64 << 10

RECORDED = Column("recorded_at", INSTANT, instant("t"), "wall time at which the record was written to Kafka")
LATENCY = Column(
    "latency_ms",
    WHOLE,
    "t - i",
    "from the arrival in Kafka of the raw record that caused it to the writing of this one",
)
PLACE = (
    Column("kafka_partition", SMALL, "p", "partition of the record in its topic", required=True),
    Column("kafka_offset", WHOLE, "o", "offset of the record in its topic", required=True),
)

CHANGES = Table(
    name="changes",
    role="changes",
    body=struct(
        {
            "entity": TEXT,
            "key": TEXT,
            "version": WHOLE,
            "time_ms": WHOLE,
            "event_id": TEXT,
            "event_type": TEXT,
            "fields": "MAP(VARCHAR, JSON[])",
            "said": "MAP(VARCHAR, JSON)",
            "late": TEXT,
        }
    ),
    columns=(
        Column("entity", TEXT, "v.entity", "kind of entity", required=True),
        Column("key", TEXT, "v.key", "the entity's key", required=True),
        Column("version", WHOLE, "v.version", "version of the row that the change made", required=True),
        Column("field", TEXT, "f.key", "the state field that it is about", required=True),
        Column(
            "changed",
            TRUTH,
            "len(f.value) = 2",
            "whether the event changed it; false: what it said was so already, or a newer event had said otherwise",
            required=True,
        ),
        Column("old", JSON, "CASE WHEN len(f.value) = 2 THEN f.value[1] END", "value before, if it changed"),
        Column("new", JSON, "f.value[-1]", "what the event said; `null` for none"),
        Column("event_id", TEXT, "v.event_id", "the event that said it"),
        Column("event_type", TEXT, "v.event_type", "its type"),
        Column("event_time", INSTANT, instant("v.time_ms"), "its event time"),
        Column(
            "late_event_id",
            TEXT,
            "v.late",
            "the event that came late, whereupon this was said of an earlier one anew (order `refold`)",
        ),
        RECORDED,
        *PLACE,
    ),
    each="list_concat(map_entries(v.fields), "
    "list_transform(map_entries(v.said), lambda e: {'key': e.key, 'value': [e.value]}))",
)

DECISIONS = Table(
    name="decisions",
    role="decisions",
    body=body(DecisionRecord),
    columns=(
        Column("decision_id", TEXT, "v.decision_id", "derived key: the same after a retry", required=True),
        Column("decision", TEXT, "v.decision", "name of the decision", required=True),
        Column("entity", TEXT, "v.entity", "kind of entity decided about"),
        Column("key", TEXT, "v.key", "its key"),
        Column("as_of", INSTANT, instant("v.at_ms"), "the instant, in event time, that it is about"),
        Column(
            "action", TEXT, "v.verdict->>'action'", "the action that the verdict names; `none` for nothing"
        ),
        Column("confidence", FLOAT, "(v.verdict->>'confidence')::DOUBLE", "the verdict's, 0 to 1"),
        Column("reason", TEXT, "v.verdict->>'reason'", "the verdict's, in words"),
        Column("route", TEXT, "v.route", "who decided: the kind of the last route asked"),
        Column("gate", TEXT, "v.gate", "proceed, review (a person is asked) or none"),
        Column("gate_reason", TEXT, "v.gate_reason", "why the gate let it through or not"),
        Column("stakes", TEXT, "v.stakes", "low, medium or high"),
        Column("review_id", TEXT, "v.review_id", "the review it waits for, or answers"),
        Column("action_id", TEXT, "v.action_id", "the action it caused"),
        Column(
            "trigger_event_id", TEXT, "v.trigger->>'event_id'", "the event that made it look; empty: a moment"
        ),
        Column("trigger_event_type", TEXT, "v.trigger->>'event_type'", "its type"),
        Column("trigger_time", INSTANT, instant("(v.trigger->>'time_ms')::BIGINT"), "its event time"),
        Column("trigger_name", TEXT, "v.trigger->>'name'", "what the decision id is derived from"),
        Column("state_version", WHOLE, "v.state_version", "version of the row it was decided on"),
        Column("context", JSON, "v.context", "the facts it was decided on"),
        Column("context_hash", TEXT, "v.context_hash", "equal facts, equal hash"),
        Column("hops", JSON, "v.hops", "each route that was asked, and what it said"),
        Column("verdict", JSON, "v.verdict", "the whole verdict"),
        Column("pipeline", TEXT, "v.pipeline", "name of the pipeline"),
        Column("pipeline_version", WHOLE, "v.pipeline_version", "its version"),
        Column("source_partition", WHOLE, "v.source_partition", "partition of the `events` record read"),
        Column("source_offset", WHOLE, "v.source_offset", "its offset"),
        RECORDED,
        LATENCY,
        *PLACE,
    ),
)

ACTIONS = Table(
    name="actions",
    role="actions",
    body=body(ActionRecord),
    columns=(
        Column(
            "action_id", TEXT, "v.action_id", "derived key, the receiver's idempotency key", required=True
        ),
        Column("decision_id", TEXT, "v.decision_id", "the decision that caused it", required=True),
        Column("action", TEXT, "v.action", "name of the action", required=True),
        Column("decision", TEXT, "v.decision", "name of the decision"),
        Column("entity", TEXT, "v.entity", "kind of entity acted for"),
        Column("key", TEXT, "v.key", "its key"),
        Column("as_of", INSTANT, instant("v.at_ms"), "the decision's instant, in event time"),
        Column("stakes", TEXT, "v.stakes", "low, medium or high"),
        Column("input", JSON, "v.input", "what the receiver is given"),
        Column("reason", TEXT, "v.reason", "why, in words"),
        Column(
            "deadline",
            INSTANT,
            instant("v.deadline_ms"),
            "event time after which it is of no use; NULL: none",
        ),
        Column("pipeline", TEXT, "v.pipeline", "name of the pipeline"),
        Column("pipeline_version", WHOLE, "v.pipeline_version", "its version"),
        RECORDED,
        LATENCY,
        *PLACE,
    ),
)

REVIEWS = Table(
    name="reviews",
    role="reviews",
    body=body(ReviewRecord),
    columns=(
        Column("review_id", TEXT, "v.review_id", "derived key", required=True),
        Column("status", TEXT, "v.status", "open, approved, rejected or expired", required=True),
        Column("decision_id", TEXT, "v.decision_id", "the decision that waits, or waited"),
        Column("decision", TEXT, "v.decision", "its name"),
        Column("entity", TEXT, "v.entity", "kind of entity it is about"),
        Column("key", TEXT, "v.key", "its key"),
        Column("action", TEXT, "v.verdict->>'action'", "the proposed action"),
        Column("reason", TEXT, "v.verdict->>'reason'", "why it is proposed"),
        Column("as_of", INSTANT, instant("v.at_ms"), "when it was asked, in event time"),
        Column("deadline", INSTANT, instant("v.deadline_ms"), "until when it can be answered, in event time"),
        Column(
            "closed_at", INSTANT, instant("v.closed_ms"), "when it was closed, in event time; NULL while open"
        ),
        Column("answered_by", TEXT, "v.by", "who answered; `timeout` for nobody"),
        Column("note", TEXT, "v.note", "what that person remarked"),
        Column("answer_decision_id", TEXT, "v.answer_decision_id", "the decision that the answer became"),
        Column("verdict", JSON, "v.verdict", "the proposal"),
        Column("context", JSON, "v.context", "the facts it was made on"),
        RECORDED,
        *PLACE,
    ),
    key="review_id",
)

# Its body is written by `snapshot_lines.quarantine_body`, from the record's headers and bytes.
QUARANTINE = Table(
    name="quarantine",
    role="quarantine",
    body=struct(
        {
            **dict.fromkeys(("id", "reason", "field", "detail", "topic"), TEXT),
            **dict.fromkeys(("partition", "offset", "size"), WHOLE),
            "headers": JSON,
            "value": TEXT,
        }
    ),
    columns=(
        Column("quarantine_id", TEXT, "v.id", "derived from where the record stood", required=True),
        Column("reason", TEXT, "v.reason", "why it was refused: one code, one cause", required=True),
        Column("field", TEXT, "v.field", "where in the record, or which function"),
        Column("detail", TEXT, "v.detail", "why, in words"),
        Column("origin_topic", TEXT, "v.topic", "the topic it stood in"),
        Column("origin_partition", WHOLE, 'v."partition"', "its partition there"),
        Column("origin_offset", WHOLE, 'v."offset"', "its offset there"),
        Column("key", TEXT, "k", "its Kafka key; bytes that are not UTF-8 as \\xNN"),
        Column("size_bytes", WHOLE, "v.size", "length of its value; NULL for a tombstone"),
        Column("headers", JSON, "v.headers", "its original headers; a repeated name has a list of values"),
        Column("value", BYTES, "from_base64(v.value)", f"its value, the first {VALUE_BYTES:,} bytes"),
        RECORDED,
        *PLACE,
    ),
)

AUDIT = Table(
    name="audit",
    role="audit",
    body=body(AuditRecord),
    columns=(
        Column(
            "lane", SMALL, "p", "the lane whose chain it belongs to (partition of `events`)", required=True
        ),
        Column("sequence", WHOLE, "v.sequence", "its number in that chain", required=True),
        Column("as_of", INSTANT, instant("v.at_ms"), "the decision's instant, in event time"),
        Column("what", TEXT, "v.what", "decided, acted, held, answered or expired"),
        Column("actor", TEXT, "v.by", "which rule, model or person, with its version"),
        Column("why", TEXT, "v.why", "why it was allowed"),
        Column("entity", TEXT, "v.entity", "kind of entity it is about"),
        Column("key", TEXT, "v.key", "its key"),
        Column("decision_id", TEXT, "v.decision_id", "the decision"),
        Column("action_id", TEXT, "v.action_id", "the action, when there is one"),
        Column("review_id", TEXT, "v.review_id", "the review, when there is one"),
        Column("previous_hash", TEXT, "v.previous_hash", "hash of the record before it in the chain"),
        Column("hash", TEXT, "v.hash", "SHA-256 over every other field"),
        RECORDED,
        *PLACE,
    ),
)

RECORDS = (CHANGES, DECISIONS, ACTIONS, REVIEWS, QUARANTINE, AUDIT)
