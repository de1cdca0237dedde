"""What an analyst finds in a snapshot: state models come in, the description of every table goes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schemas.action import ActionRecord
from schemas.audit import AuditRecord
from schemas.decision import DecisionRecord
from schemas.review import ReviewRecord
from schemas.row import State
from tables.snapshot_columns import (
    BYTES, DATE, FLOAT, INSTANT, JSON, TEXT, WHOLE, Column, SnapshotError, Table, body, fields, instant, struct,
)

# How much of a refused record's value is kept; `size_bytes` tells how long it was.
VALUE_BYTES = 64 << 10


def tables(states: Mapping[str, type[State]]) -> tuple[Table, ...]:
    """The tables of a pipeline whose entities have these states.

    Raises:
        SnapshotError: an entity or a state cannot be a table.
    """
    named: dict[str, str] = {}
    for name in states:
        table = f"entity_{name}" if name.lower() in FIXED else name
        if table.lower() in named:
            other = named[table.lower()]
            raise SnapshotError(
                f"entities {other!r} and {name!r} differ only in case; SQL cannot tell them apart. Rename one."
            )
        named[table.lower()] = name
    entities = (
        entity_table(f"entity_{name}" if name.lower() in FIXED else name, name, state)
        for name, state in states.items()
    )
    return (*entities, CHANGES, DECISIONS, ACTIONS, REVIEWS, QUARANTINE, AUDIT)



RECORDED = Column("recorded_at", INSTANT, instant("t"), "wall time at which the record was written to Kafka")
LATENCY = Column(
    "latency_ms",
    WHOLE,
    "t - i",
    "from the arrival in Kafka of the raw record that caused it to the writing of this one; NULL if nothing did",
)
PLACE = (
    Column("kafka_partition", "INTEGER", "p", "partition of the record in its topic", required=True),
    Column("kafka_offset", WHOLE, "o", "offset of the record in its topic", required=True),
)


def entity_table(table: str, entity: str, state: type[State]) -> Table:
    """The table of one entity: key, one column per state field, and what explains the row.

    A state field that has the name of an explaining column is called `state_<field>`.
    """
    declared = fields(state)
    if len({name.lower() for name in declared}) < len(declared):
        raise SnapshotError(
            f"{state.__name__}: fields that differ only in case: {', '.join(sorted(declared))}; SQL cannot tell "
            f"them apart. Rename one."
        )
    around = [column.name for column in ENTITY]
    taken = {*around, *(name.lower() for name in declared)}
    columns = []
    for name, (kind, description) in declared.items():
        free = name
        while free.lower() in around or (free != name and free.lower() in taken):
            free = f"state_{free}"
        taken.add(free.lower())
        columns.append(Column(free, kind, f'v.state."{name}"', description or f"state field {name}"))
    row = {
        "state": struct({name: kind for name, (kind, _) in declared.items()}),
        "schema_version": WHOLE,
        "version": WHOLE,
        "as_of_ms": WHOLE,
        "cause": JSON,
        "admitted": WHOLE,
        "duplicates": WHOLE,
        "windows": JSON,
        "related": JSON,
        "timers": JSON,
        "reviews": JSON,
        "evicted": JSON,
    }
    return Table(
        name=table,
        role=f"{entity}.changelog",
        body=struct(row),
        columns=(ENTITY[0], *columns, *ENTITY[1:]),
        key="key",
        prefix=f"{entity}:",
    )


ENTITY = (
    Column("key", TEXT, "k", "the entity's key", required=True),
    Column("version", WHOLE, "v.version", "how many events have changed the row", required=True),
    Column(
        "as_of",
        INSTANT,
        f"CASE WHEN v.version > 0 THEN {instant('v.as_of_ms')} END",
        "event time of the newest event in the row",
    ),
    Column("cause_event_id", TEXT, "v.cause->>0", "the event folded in last"),
    Column("cause_event_type", TEXT, "v.cause->>1", "its type"),
    Column("cause_source", TEXT, "v.cause->>2", "who said it"),
    Column("cause_time", INSTANT, instant("(v.cause->>3)::BIGINT"), "its event time"),
    Column("admitted", WHOLE, "v.admitted", "events that this row judged as their owner: new ones"),
    Column("duplicates", WHOLE, "v.duplicates", "events that came again and changed nothing"),
    Column("windows", JSON, "v.windows", "window → [[epoch ms, event id, item], …], oldest first"),
    Column("related", JSON, "v.related", "link → key → field → [[epoch ms, event id, value], …]"),
    Column("timers", JSON, "v.timers", "timer → when it is due and what it is for"),
    Column("open_reviews", JSON, "v.reviews", "review id → the proposal that waits for a person"),
    Column("evicted", JSON, "v.evicted", "bound → how many entries it has thrown away"),
    Column("schema_version", WHOLE, "v.schema_version", "version of the row's layout"),
    RECORDED,
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
        }
    ),
    columns=(
        Column("entity", TEXT, "v.entity", "kind of entity", required=True),
        Column("key", TEXT, "v.key", "the entity's key", required=True),
        Column("version", WHOLE, "v.version", "version of the row that the change made", required=True),
        Column("field", TEXT, "f.key", "the state field that changed", required=True),
        Column("old", JSON, "f.value[1]", "value before; NULL for none"),
        Column("new", JSON, "f.value[2]", "value after; NULL for none"),
        Column("event_id", TEXT, "v.event_id", "the event that changed it"),
        Column("event_type", TEXT, "v.event_type", "its type"),
        Column("event_time", INSTANT, instant("v.time_ms"), "its event time"),
        RECORDED,
        *PLACE,
    ),
    each="v.fields",
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
        Column("action", TEXT, "v.verdict->>'action'", "the action that the verdict names; `none` for nothing"),
        Column("confidence", FLOAT, "(v.verdict->>'confidence')::DOUBLE", "the verdict's, 0 to 1"),
        Column("reason", TEXT, "v.verdict->>'reason'", "the verdict's, in words"),
        Column("route", TEXT, "v.route", "who decided: the kind of the last route asked"),
        Column("gate", TEXT, "v.gate", "proceed, review (a person is asked) or none"),
        Column("gate_reason", TEXT, "v.gate_reason", "why the gate let it through or not"),
        Column("stakes", TEXT, "v.stakes", "low, medium or high"),
        Column("review_id", TEXT, "v.review_id", "the review it waits for, or answers"),
        Column("action_id", TEXT, "v.action_id", "the action it caused"),
        Column("trigger_event_id", TEXT, "v.trigger->>'event_id'", "the event that made it look; empty: a moment"),
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
        Column("action_id", TEXT, "v.action_id", "derived key, the receiver's idempotency key", required=True),
        Column("decision_id", TEXT, "v.decision_id", "the decision that caused it", required=True),
        Column("action", TEXT, "v.action", "name of the action", required=True),
        Column("decision", TEXT, "v.decision", "name of the decision"),
        Column("entity", TEXT, "v.entity", "kind of entity acted for"),
        Column("key", TEXT, "v.key", "its key"),
        Column("as_of", INSTANT, instant("v.at_ms"), "the decision's instant, in event time"),
        Column("stakes", TEXT, "v.stakes", "low, medium or high"),
        Column("input", JSON, "v.input", "what the receiver is given"),
        Column("reason", TEXT, "v.reason", "why, in words"),
        Column("deadline", INSTANT, instant("v.deadline_ms"), "event time after which it is of no use; NULL: none"),
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
        Column("closed_at", INSTANT, instant("v.closed_ms"), "when it was closed, in event time; NULL while open"),
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
        Column("lane", "INTEGER", "p", "the lane whose chain it belongs to (partition of `events`)", required=True),
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

# What a snapshot says about itself; filled by `snapshot.Snapshot`, so `sql` is empty.
OFFSETS = (
    Column("topic", TEXT, "", "Kafka topic", required=True),
    Column("partition", "INTEGER", "", "its partition", required=True),
    Column("next_offset", WHOLE, "", "the cut: every committed record before it is in, none from it on", required=True),
    Column("cut_at", INSTANT, "", "wall time at which the ends of all topics were taken", required=True),
    Column("pipeline", TEXT, "", "name of the pipeline", required=True),
    Column("pipeline_version", WHOLE, "", "its version", required=True),
    Column("cluster_id", TEXT, "", "the Kafka cluster that was read", required=True),
)
UNREADABLE = (
    Column("topic", TEXT, "", "Kafka topic", required=True),
    Column("kafka_partition", "INTEGER", "", "partition of the record", required=True),
    Column("kafka_offset", WHOLE, "", "its offset", required=True),
    Column("key", TEXT, "", "its Kafka key"),
    Column("reason", TEXT, "", "why it is in no table", required=True),
    Column("value", BYTES, "", f"its value, the first {VALUE_BYTES:,} bytes"),
)
DICTIONARY = (
    Column("table_name", TEXT, "", "a table of this file", required=True),
    Column("column_name", TEXT, "", "one of its columns", required=True),
    Column("data_type", TEXT, "", "its DuckDB type", required=True),
    Column("meaning", TEXT, "", "what it holds", required=True),
)
ABOUT: Mapping[str, tuple[Column, ...]] = {
    "_offsets": OFFSETS,
    "_unreadable": UNREADABLE,
    "_columns": DICTIONARY,
}
FIXED = frozenset([*ABOUT, *(table.name for table in (CHANGES, DECISIONS, ACTIONS, REVIEWS, QUARANTINE, AUDIT))])


def dictionary(known: Iterable[Table]) -> list[tuple[str, str, str, str]]:
    """The rows of `_columns`: table, column, type, meaning."""
    all_of_them = [(table.name, table.columns) for table in known] + list(ABOUT.items())
    return [(name, c.name, c.type, c.meaning) for name, columns in all_of_them for c in columns]
