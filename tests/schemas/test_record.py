"""schemas/record.py: records made by hand are records as lanes read them."""

from __future__ import annotations

from aiokafka import ConsumerRecord

from schemas.record import NO_HEADERS, Given, Out, Placed


def read(record: Placed) -> tuple[object, ...]:
    """All that a lane reads."""
    return (
        *(record.topic, record.partition, record.offset, record.timestamp),
        *(record.key, record.value, list(record.headers)),
    )


def test_a_record_made_by_hand_and_one_of_aiokafka_read_alike() -> None:
    given = Given("flights.raw", 1, 7, 99, b"k", b"v", [("a", b"b")])
    consumed = ConsumerRecord("flights.raw", 1, 7, 99, 0, b"k", b"v", None, 1, 1, [("a", b"b")])
    assert read(given) == read(consumed)


def test_a_record_to_be_written_goes_by_its_key_unless_it_says_where() -> None:
    out = Out("events", b"flight:UA1", b"{}")
    assert (out.partition, out.headers) == (None, [])
    assert NO_HEADERS == [], "shared by every record without headers: nobody may add to it"
