"""schemas/quarantine.py: what is added tells why; what was there comes out again, byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.quarantine import (
    PREFIX,
    Origin,
    Reason,
    Refusal,
    original_headers,
    quarantine_headers,
    read_quarantine,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
HEADERS = st.lists(
    st.tuples(TEXT.filter(lambda name: not name.startswith(PREFIX)), st.binary(max_size=8) | st.none())
)
ORIGIN = Origin("flights.raw", 2, 17)
REFUSAL = Refusal(Reason.WRONG_TYPE, "delay_min", "Input should be a valid integer")


@settings(deadline=None)
@given(HEADERS, st.sampled_from(Reason), TEXT, TEXT)
def test_the_original_headers_come_out_as_they_went_in(
    headers: list[tuple[str, bytes]], reason: Reason, field: str, detail: str
) -> None:
    """Their order, names that occur twice, empty names, values that are no text, and missing values included."""
    written = quarantine_headers(Refusal(reason, field, detail), ORIGIN, headers)
    assert original_headers(written) == headers
    assert read_quarantine(written) == {
        "id": ORIGIN.id,
        "reason": reason.value,
        "field": field,
        "detail": detail,
        "topic": "flights.raw",
        "partition": "2",
        "offset": "17",
    }


def test_a_record_that_is_refused_again_has_only_the_last_reason() -> None:
    once = quarantine_headers(REFUSAL, ORIGIN, [("ce_id", b"1")])
    twice = quarantine_headers(Refusal(Reason.NOT_JSON), Origin("flights.raw", 0, 99), once)
    assert original_headers(twice) == [("ce_id", b"1")]
    assert (read_quarantine(twice)["reason"], read_quarantine(twice)["offset"]) == ("not_json", "99")


def test_nobody_can_write_a_reason_of_his_own() -> None:
    written = quarantine_headers(REFUSAL, ORIGIN, [(PREFIX + "reason", b"fine"), (PREFIX + "extra", b"x")])
    assert read_quarantine(written)["reason"] == "wrong_type"
    assert "extra" not in read_quarantine(written)


@pytest.mark.parametrize("name", ["field", "detail"])
def test_what_the_sender_wrote_does_not_fill_the_headers(name: str) -> None:
    refusal = Refusal(Reason.UNKNOWN_FIELD, "f" * 10_000, "d" * 10_000)
    assert len(read_quarantine(quarantine_headers(refusal, ORIGIN, []))[name]) == 500


def test_a_quarantine_record_is_named_by_where_the_refused_one_stood() -> None:
    others = [Origin("flights.raw", 2, 18), Origin("flights.raw", 1, 17), Origin("flights.events", 2, 17)]
    ids = {ORIGIN.id, *(origin.id for origin in others), Origin("flights.raw", 2, 17, "timer").id}
    assert len(ids) == 5
    assert Origin("flights.raw", 2, 17).id == ORIGIN.id
