"""Which broker the commands use: the named one, else the embedded one, else a line that says how to get one."""

from pathlib import Path

import pytest

from streams.broker import BrokerError
from streams.settings import SettingsError
from streams.where import clients, state_home


def test_the_named_broker_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "kafka-1:9092,kafka-2:9092")

    assert clients()["bootstrap_servers"] == "kafka-1:9092,kafka-2:9092"


def test_none_named_and_none_running_says_both_ways_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.setenv("MIDSTREAM_HOME", str(tmp_path))

    with pytest.raises(BrokerError, match=r"midstream broker start.*KAFKA_BOOTSTRAP"):
        clients()


def test_settings_that_contradict_themselves_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAFKA_BOOTSTRAP", "kafka:9092")
    monkeypatch.setenv("KAFKA_SASL_USERNAME", "ann")

    with pytest.raises(SettingsError, match="KAFKA_SASL_USERNAME"):
        clients()


def test_state_lies_in_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MIDSTREAM_HOME", str(tmp_path))

    assert state_home() == tmp_path / "state"
