"""How commands write: instants, durations, tables, JSON; each on the stream where it belongs."""

import json

import pytest

from streams.commands.shared import moment, note, print_json, progress, span, table
from streams.inventory import TopicState


@pytest.mark.parametrize(("time_ms", "text"), [(None, "-"), (0, "1970-01-01T00:00:00Z")])
def test_instants(time_ms: int | None, text: str) -> None:
    assert moment(time_ms) == text


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0"),
        (1000, "1 s"),
        (90_000, "90 s"),
        (300_000, "5 min"),
        (7_200_000, "2 h"),
        (172_800_000, "2 d"),
        (1500, "0:00:01.500000"),
    ],
)
def test_durations_have_their_largest_whole_unit(duration_ms: int, text: str) -> None:
    assert span(duration_ms) == text


def test_columns_line_up_and_no_line_ends_in_blanks() -> None:
    assert table([["a", "1", ""], ["bbb", "22", "x y"]], ["id", "n", "about"]) == (
        "id   n   about\na    1\nbbb  22  x y"
    )


def test_json_and_notes_have_a_stream_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_json([TopicState("t", "raw", "k", "w", "a", 1, [0], [2], "7 d")])
    note("for people")
    told = capsys.readouterr()

    assert json.loads(told.out)[0]["last"] == [2]
    assert told.err == "for people\n"


def test_progress_is_silent_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading") as seen:
        seen(1, 2)
    told = capsys.readouterr()

    assert told.out == ""
    assert told.err.strip() == ""
