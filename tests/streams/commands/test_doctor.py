"""`midstream doctor`: what is well, what is not, and what to do; on this machine, with and without a broker."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from streams.cli import main
from streams.settings import KafkaSettings
from tests.support.desk import TICKETS, Desk


def by_check(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in found}


def test_without_a_broker_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.setenv("MIDSTREAM_HOME", str(tmp_path))

    code = main(["doctor", str(TICKETS), "--json"])
    found = by_check(json.loads(capsys.readouterr().out))

    assert code == 1
    assert found["python"]["outcome"] == "ok"
    assert found["python"]["about"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert found["pins"]["outcome"] == "ok"
    assert found["broker"]["outcome"] == "fail"
    assert "midstream broker start" in found["broker"]["about"]
    assert "topics" not in found


def test_a_broker_that_does_not_answer_is_told_by_its_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "127.0.0.1:1")

    code = main(["doctor"])
    out = capsys.readouterr().out

    assert code == 1
    assert "fail broker            Kafka does not answer at 127.0.0.1:1\n" in out
    assert "set KAFKA_BOOTSTRAP to one that runs" in out


def test_settings_that_contradict_themselves_are_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "nonsense")

    assert main(["doctor", "--json"]) == 1
    assert "KAFKA_BOOTSTRAP" in by_check(json.loads(capsys.readouterr().out))["broker"]["about"]


@pytest.mark.broker
def test_a_running_pipeline_is_well(desk: Desk) -> None:
    run = desk.run("doctor", "--json")
    found = by_check(json.loads(run.stdout))

    assert run.returncode == 0, run.stdout
    assert {name for name, finding in found.items() if finding["outcome"] == "fail"} == set()
    assert found["broker"]["about"].startswith(f"{desk.kafka.bootstrap}: 1 broker, Kafka 4.")
    assert found["topics"]["about"] == f"{len(desk.plan.entities) + 9} of {desk.name}, 3 partitions"
    assert found["transactions"]["outcome"] == "ok"
    assert found["open transactions"]["outcome"] == "ok"
    assert found["lanes"]["about"] == "1 worker, everything is read"
    assert found["snapshot"]["outcome"] == "warn"


@pytest.mark.broker
def test_missing_topics_fail_and_a_missing_worker_is_a_warning(broker: KafkaSettings, tmp_path: Path) -> None:
    desk = Desk(broker, tmp_path)
    before = desk.run("doctor", "--json")
    assert desk.run("topics", "create", "--partitions", "1").returncode == 0
    desk.send(desk.bad_week("acme"))
    after = desk.run("doctor", "--json")

    assert before.returncode == 1
    missing = by_check(json.loads(before.stdout))["topics"]
    assert (missing["outcome"], missing["cure"]) == ("fail", "midstream topics create PIPELINE")
    assert after.returncode == 0
    lanes = by_check(json.loads(after.stdout))["lanes"]
    assert (lanes["outcome"], lanes["about"]) == (
        "warn",
        f"no worker runs; records wait in {desk.name}.raw/0",
    )
