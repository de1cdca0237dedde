"""Runs -> medians, ratios, what is missing, and a table that says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import Run, circumstances, draw, summary, table
from benchmarks.roster import CONTENDERS
from streams.settings import KafkaSettings


def a_run(
    contender: str,
    number: int,
    events_per_s: float,
    cpu_us: float | None = 1.0,
    cores: float = 0.95,
    seconds: float = 9.0,
) -> Run:
    return Run(contender, number, 10, seconds, events_per_s, cpu_us, cores, 1, 10, 10, 0.0)


def ours() -> list[Run]:
    return [
        a_run("midstream_eos", n, v, c) for n, (v, c) in enumerate([(90.0, 3.0), (10.0, 9.0), (60.0, 5.0)])
    ]


def test_the_report_is_medians_their_ratios_and_the_spread() -> None:
    peers = [a_run("quix_eos", n, v) for n, v in enumerate([20.0, 10.0, 30.0])]
    found = summary([*ours(), *peers, a_run("kafka_streams_eos", 0, 40.0)], {})
    assert (found["midstream_eos"], found["quix_eos"], found["kafka_streams_eos"]) == (60.0, 20.0, 40.0)
    assert (found["ratio_quix"], found["ratio_kafka_streams"]) == (3.0, 1.5)
    assert found["spread"]["midstream_eos"] == {"min": 10.0, "median": 60.0, "max": 90.0}
    assert found["cpu_us_per_event"]["midstream_eos"] == 5.0
    assert len(found["runs"]) == 7
    assert found["undisturbed"]
    assert found["too_short"] == []


def test_who_was_not_asked_for_or_failed_is_null_and_never_left_out() -> None:
    failed = [a_run("quix_eos", 1, 20.0)]
    found = summary(
        [*ours(), *failed], {"quix_eos": "failed in round 2: gone", "kafka_streams_eos": "no mvn"}
    )
    assert [found[each.name] for each in CONTENDERS] == [60.0, *[None] * 7]
    assert [found[key] for key in found if key.startswith("ratio_")] == [None] * 4
    assert found["missing"] == {"quix_eos": "failed in round 2: gone", "kafka_streams_eos": "no mvn"}


def test_a_contender_that_was_kept_waiting_is_told() -> None:
    assert not summary([a_run("faust_eos", 1, 5.0, cores=0.3)], {})["undisturbed"]
    # Its work is spread over threads that wait for the broker.
    assert summary([a_run("raw_aiokafka", 1, 5.0, cores=0.3)], {})["undisturbed"]


def test_a_stretch_of_a_moment_is_told() -> None:
    assert summary([a_run("faust_eos", 1, 9e5, seconds=0.1)], {})["too_short"] == ["faust_eos"]


def report(runs: list[Run], missing: dict[str, str]) -> dict[str, Any]:
    where = circumstances(KafkaSettings.plaintext("127.0.0.1:9"), CONTENDERS)
    return {"rounds": 3, "events": 10, **summary(runs, missing), **where}


def test_the_table_says_what_a_reader_must_know() -> None:
    runs = [*ours(), a_run("quix_eos", 1, 20.0, cpu_us=None), a_run("bytewax_recovery", 1, 30.0, seconds=1.0)]
    text = table(report(runs, {"kafka_streams_eos": "kafka_streams: mvn is not on PATH."}))
    for expected in (
        "midstream_eos is 3.00 × quix_eos, 2.00 × bytewax_recovery",
        "Bytewax with recovery, not exactly-once",
        "missing: kafka_streams_eos: kafka_streams: mvn is not on PATH.",
        "A figure is events per second of a run's last nine tenths",
        "kafka_streams_eos: kafka-streams 4.3.1, jackson-databind",
        "says little: bytewax_recovery",
    ):
        assert expected in text
    assert "disturbed" not in text


def test_peers_come_with_their_pinned_versions() -> None:
    peers = report(ours(), {})["versions"]["peers"]
    assert peers["faust_eos"] == {
        "faust-streaming": "0.15.3",
        "mode-streaming": "0.7.1",
        "aiokafka": "0.14.0",
    }
    assert peers["quix_eos"].keys() == {"quixstreams"}
    assert peers["raw_librdkafka"].keys() >= {"aiokafka", "confluent-kafka"}
    assert "midstream_eos" not in peers


@pytest.mark.parametrize("name", ["ratio_faust", "ratio_quix", "ratio_bytewax", "ratio_kafka_streams"])
def test_no_ratio_without_our_own_figure(name: str) -> None:
    found = summary([a_run(each.name, 1, 5.0) for each in CONTENDERS[1:]], {})
    assert found[name] is None


def test_those_with_a_figure_are_drawn(tmp_path: Path) -> None:
    draw(report([*ours(), a_run("kafka_streams_eos", 0, 40.0)], {"quix_eos": "gone"}), tmp_path)
    drawn = (tmp_path / "throughput.svg").read_text()
    # A name on two lines.
    for expected in (">midstream<", ">eos<", ">kafka<", ">streams eos<", ">60<", ">40<"):
        assert expected in drawn
    assert "quix" not in drawn
    draw(report([], {}), tmp_path / "none")
    assert not (tmp_path / "none").exists()
