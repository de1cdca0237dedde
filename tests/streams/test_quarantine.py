"""Refused records: read back, shown so that nothing is obeyed, and sent the way that each can go."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import ANSWERED
from schemas.quarantine import Origin, Reason, Refusal, quarantine_headers
from schemas.record import Given
from streams.quarantine import (
    REDRIVEN,
    NotRedrivenError,
    Quarantined,
    back,
    printable,
    read,
    shown,
)

HEADERS = [("ce_id", b"e1"), ("ce_type", b"ticket.opened"), ("ce_subject", b"ticket:T1")]


def refused(
    topic: str = "p.raw",
    key: bytes | None = b"k",
    value: bytes | None = b"{}",
    headers: list[tuple[str, bytes]] = HEADERS,
    part: str = "",
) -> Quarantined:
    """A record as it comes back out of the quarantine topic."""
    refusal = Refusal(Reason.WRONG_TYPE, "a.b", "an int, please")
    told = quarantine_headers(refusal, Origin(topic, 2, 17, part), headers)
    entry = read(Given("p.quarantine", 0, 3, 1_700_000_000_000, key, value, told))
    assert entry is not None
    return entry


def test_what_was_written_is_read_back() -> None:
    entry = refused()

    assert (entry.reason, entry.field, entry.detail) == ("wrong_type", "a.b", "an int, please")
    assert (entry.topic, entry.partition, entry.offset) == ("p.raw", 2, 17)
    assert (entry.key, entry.value, list(entry.headers)) == (b"k", b"{}", HEADERS)
    assert (entry.event_id, entry.redriven_from) == ("e1", None)


@pytest.mark.parametrize("headers", [[], [("ms_q_id", b"x")], [("ms_q_partition", b"one")]])
def test_what_somebody_else_wrote_is_none(headers: list[tuple[str, bytes]]) -> None:
    assert read(Given("p.quarantine", 0, 0, 0, None, None, headers)) is None


def test_a_raw_record_goes_back_as_it_came() -> None:
    entry = refused(key=None, value=None, headers=[])
    out = back(entry)

    assert (out.topic, out.key, out.value, out.partition) == ("raw", None, None, None)
    assert out.headers == [(REDRIVEN, entry.id.encode())]


def test_the_mark_names_the_last_redrive_alone() -> None:
    before = [*HEADERS, (REDRIVEN, b"qua_before")]
    entry = refused(headers=before)

    assert entry.redriven_from == "qua_before"
    assert [value for name, value in back(entry).headers if name == REDRIVEN] == [entry.id.encode()]
    assert [header for header in back(entry).headers if header[0] != REDRIVEN] == HEADERS


def test_another_body_replaces_the_bytes_alone() -> None:
    out = back(refused(), b"mended")

    assert (out.key, out.value, out.headers[:-1]) == (b"k", b"mended", HEADERS)


def test_a_fact_that_its_owner_refused_goes_to_raw() -> None:
    assert back(refused("p.events", b"ticket:T1")).topic == "raw"


def test_a_copy_goes_back_to_its_entity_on_its_partition() -> None:
    out = back(refused("p.events", b"customer:acme"))

    assert (out.topic, out.key, out.partition) == ("events", b"customer:acme", 2)


def test_a_copy_cannot_be_given_another_body() -> None:
    with pytest.raises(NotRedrivenError, match="ticket:T1 has taken as it is"):
        back(refused("p.events", b"customer:acme"), b"{}")


def test_a_failed_timer_cannot_go_back() -> None:
    with pytest.raises(NotRedrivenError, match="timer that failed"):
        back(refused("p.events", b"clock", part="ticket:T1:settle"))


def test_an_answer_is_given_anew() -> None:
    headers = [("ce_type", ANSWERED.encode()), ("ce_subject", b"customer:acme")]

    with pytest.raises(NotRedrivenError, match="midstream review approve"):
        back(refused("p.events", b"customer:acme", headers=headers))


@pytest.mark.parametrize(
    ("value", "text", "what"),
    [
        (None, "", "no value (a tombstone)"),
        (b"", "", "0 bytes, UTF-8"),
        (b'{"a": 1}', '{"a": 1}', "8 bytes, UTF-8"),
        (b"\xff\x00", "ff 00", "2 bytes, hexadecimal: not UTF-8"),
        (b"\x1b[31mred", r"\x1b[31mred", "8 bytes, UTF-8"),
        ("naïve ☃".encode(), "naïve ☃", "10 bytes, UTF-8"),
        (b"x" * 3000, "x" * 2000, "first 2000 of 3000 bytes, UTF-8"),
        # The cut falls into a character.
        (b"x" * 1999 + "é".encode() * 10, "x" * 1999, "first 2000 of 2019 bytes, UTF-8"),
    ],
    ids=repr,
)
def test_bytes_are_shown_as_text_or_hexadecimal(value: bytes | None, text: str, what: str) -> None:
    assert shown(value) == (text, what)


@given(st.binary(max_size=300), st.integers(0, 64))
def test_whatever_is_shown_holds_nothing_that_a_terminal_obeys(value: bytes, limit: int) -> None:
    text, _ = shown(value, limit)

    assert all(char.isprintable() or char == "\n" for char in text)


@given(st.text(string.printable))
def test_lines_stay_lines(text: str) -> None:
    assert printable(text).count("\n") == text.count("\n")
