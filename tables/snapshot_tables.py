"""What an analyst finds in a snapshot: state models come in, the description of every table goes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from schemas.row import State
from tables.snapshot_columns import (
    BYTES,
    INSTANT,
    JSON,
    SMALL,
    TEXT,
    TRUTH,
    WHOLE,
    Column,
    SnapshotError,
    Table,
    fields,
    instant,
    struct,
)
from tables.snapshot_records import RECORDED, RECORDS, VALUE_BYTES


def tables(states: Mapping[str, type[State]]) -> tuple[Table, ...]:
    """The tables of a pipeline whose entities have these states.

    An entity that is called like one of the other tables gets the table `entity_<name>`.

    Raises:
        SnapshotError: SQL cannot tell two entities, or two fields of one state, apart.
    """
    entities = [entity_table(table_name(name), name, state) for name, state in states.items()]
    apart("entities", [table.name for table in entities])
    return (*entities, *RECORDS)


def table_name(entity: str) -> str:
    """What the table of `entity` is called."""
    return f"entity_{entity}" if entity.lower() in FIXED else entity


def apart(what: str, names: Sequence[str]) -> None:
    """Refuse names that differ only in case."""
    for number, name in enumerate(names):
        if name.lower() in {other.lower() for other in names[:number]}:
            raise SnapshotError(
                f"{what}: {name!r} and another differ only in case, so SQL cannot tell them apart. Rename one."
            )


def own_columns(state: type[State]) -> list[tuple[str, Column]]:
    """Each field of a state with its column; one that is called like an explaining column becomes `state_<field>`."""
    around = {column.name for column in ENTITY}
    return [
        (
            name,
            Column(
                f"state_{name}" if name.lower() in around else name,
                kind,
                f'v.state."{name}"',
                description or f"field {name} of the state",
            ),
        )
        for name, (kind, description) in fields(state).items()
    ]


def entity_table(table: str, entity: str, state: type[State]) -> Table:
    """The table of one entity: key, one column per state field, and what explains the row."""
    declared = own_columns(state)
    own = [column for _, column in declared]
    apart(f"fields of {state.__name__}", [column.name for column in own])
    row = {
        "state": struct({name: column.type for name, column in declared}),
        **dict.fromkeys(("schema_version", "version", "as_of_ms", "admitted", "duplicates"), WHOLE),
        **dict.fromkeys(("cause", "windows", "related", "timers", "reviews", "evicted"), JSON),
    }
    return Table(
        name=table,
        role=f"{entity}.changelog",
        body=struct(row),
        columns=(ENTITY[0], *own, *ENTITY[1:]),
        key="key",
        prefix=f"{entity}:",
    )


ENTITY = (
    Column("key", TEXT, "k", "the entity's key", required=True),
    Column("version", WHOLE, "v.version", "how many events and links have changed the row", required=True),
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
    Column(
        "duplicates",
        WHOLE,
        "v.duplicates",
        "events that came again and changed nothing (0 in order `refold`)",
    ),
    Column("windows", JSON, "v.windows", "window → [[epoch ms, event id, item], …], oldest first"),
    Column("related", JSON, "v.related", "link → key → field → [[epoch ms, event id, value], …]"),
    Column("timers", JSON, "v.timers", "timer → when it is due and what it is for"),
    Column("open_reviews", JSON, "v.reviews", "review id → the proposal that waits for a person"),
    Column("evicted", JSON, "v.evicted", "bound → how many entries it has thrown away"),
    Column("schema_version", WHOLE, "v.schema_version", "version of the row's layout"),
    RECORDED,
)

# What a snapshot says about itself; filled by `snapshot.Snapshot`, so `sql` is empty.
OFFSETS = (
    Column("topic", TEXT, "", "Kafka topic", required=True),
    Column("partition", SMALL, "", "its partition", required=True),
    Column(
        "next_offset",
        WHOLE,
        "",
        "the cut: every committed record before it is in, none from it on",
        required=True,
    ),
    Column(
        "aligned",
        TRUTH,
        "",
        "whether every transaction of this lane is in all tables or in none",
        required=True,
    ),
    Column("cut_at", INSTANT, "", "wall time at which the ends of all topics were taken", required=True),
    Column("pipeline", TEXT, "", "name of the pipeline", required=True),
    Column("pipeline_version", WHOLE, "", "its version", required=True),
    Column("cluster_id", TEXT, "", "the Kafka cluster that was read", required=True),
)
UNREADABLE = (
    Column("topic", TEXT, "", "Kafka topic", required=True),
    Column("kafka_partition", SMALL, "", "partition of the record", required=True),
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
FIXED = frozenset([*ABOUT, *(table.name for table in RECORDS)])


def dictionary(known: Iterable[Table]) -> list[tuple[str, str, str, str]]:
    """The rows of `_columns`: table, column, type, meaning."""
    named = [*((table.name, table.columns) for table in known), *ABOUT.items()]
    return [(name, c.name, c.type, c.meaning) for name, columns in named for c in columns]
