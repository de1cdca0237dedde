"""Where Kafka is: the environment and the embedded broker come in; the options of every Kafka client go out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from streams.settings import home, load_settings


def clients() -> dict[str, Any]:
    """The aiokafka options for the broker in use: the one that `KAFKA_*` names, else the embedded one that runs.

    Raises:
        SettingsError: the environment contradicts itself.
        BrokerError: neither is there; the message says how to start or name one.
    """
    settings = load_settings()
    if settings.bootstrap is None:
        # Only now: it brings along the jars' and the process's code.
        from streams.broker import connect

        settings = connect(settings)
    return settings.client_options()


def state_home() -> Path:
    """The folder of the workers' local databases, unless one is told otherwise."""
    return home() / "state"
