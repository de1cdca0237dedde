"""Lines for DuckDB: each record on one line, its body as it was, whatever bytes it has."""

from __future__ import annotations

import json
from base64 import b64decode
from pathlib import Path

import pytest

from schemas.quarantine import Origin, Reason, Refusal, quarantine_headers
from schemas.record import Given
from schemas.row import State
from tables.snapshot_columns import Table
from tables.snapshot_lines import line_of, write_lines
from tables.snapshot_records import DECISIONS, QUARANTINE, VALUE_BYTES
from tables.snapshot_tables import tables


class Box(State):
    width: int = 0


BOX = tables({"box": Box})[0]


def read(table: Table, record: Given) -> dict[str, object]:
    line = line_of(table, record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    found: dict[str, object] = json.loads(line)
    return found


def test_a_line_holds_place_time_key_and_body() -> None:
    record = Given("t", 3, 7, 1_000, b"box:a:b", b'{"x":1.0}', [("ms_ingested", b"900")])
    assert read(BOX, record) == {"p": 3, "o": 7, "t": 1_000, "i": 900, "k": "a:b", "v": {"x": 1.0}}


def test_only_the_entity_is_taken_off_a_key() -> None:
    record = Given("t", 0, 0, 0, b"box:a", b"{}")
    assert read(BOX, record)["k"] == "a"
    assert read(DECISIONS, record)["k"] == "box:a"


@pytest.mark.parametrize(
    ("key", "expected"),
    [(None, None), (b"", ""), (b'"\n\\', '"\n\\'), ("zażółć".encode(), "zażółć"), (b"\xff\x00", "\\xff\x00")],
)
def test_any_key_is_text(key: bytes | None, expected: str | None) -> None:
    assert read(DECISIONS, Given("t", 0, 0, 0, key, b"{}"))["k"] == expected


@pytest.mark.parametrize("header", [b"", b"x", b"-1", b"1.5", b"\xff"])
def test_an_ingestion_time_that_is_none_is_null(header: bytes) -> None:
    assert read(DECISIONS, Given("t", 0, 0, 0, None, b"{}", [("ms_ingested", header)]))["i"] is None


def test_a_body_on_several_lines_comes_on_one_and_none_is_null() -> None:
    assert read(DECISIONS, Given("t", 0, 0, 0, None, b'{\n "a":\n 1}\n'))["v"] == {"a": 1}
    assert read(DECISIONS, Given("t", 0, 0, 0, None, None))["v"] is None


def test_a_refused_record_says_why_and_keeps_its_headers_and_the_beginning_of_its_value() -> None:
    value = bytes(range(256)) * 300
    original = [("ce_id", b"e1"), ("x", b"1"), ("x", b"2"), ("x", b"\xfe")]
    headers = quarantine_headers(Refusal(Reason.NOT_JSON, "body", "no"), Origin("p.raw", 1, 2), original)
    body = read(QUARANTINE, Given("t", 0, 0, 0, b"k", value, headers))["v"]
    assert isinstance(body, dict)
    assert body["reason"] == "not_json"
    assert (body["topic"], body["partition"], body["offset"]) == ("p.raw", "1", "2")
    assert body["headers"] == {"ce_id": "e1", "x": ["1", "2", "\\xfe"]}
    assert body["size"] == len(value)
    assert b64decode(body["value"]) == value[:VALUE_BYTES]


def test_a_refused_tombstone_has_no_size() -> None:
    body = read(QUARANTINE, Given("t", 0, 0, 0, b"k", None))["v"]
    assert body == {"size": None, "headers": {}, "value": None}


def test_a_file_of_lines_tells_its_longest(tmp_path: Path) -> None:
    records = [Given("t", 0, i, 0, b"k", b'"' + b"x" * i + b'"') for i in (5, 90, 10)]
    longest = write_lines(tmp_path / "lines", DECISIONS, records)
    lines = (tmp_path / "lines").read_bytes().splitlines(keepends=True)
    assert [json.loads(line)["o"] for line in lines] == [5, 90, 10]
    assert longest == max(map(len, lines))
