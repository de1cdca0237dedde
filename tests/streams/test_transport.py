"""streams/transport.py without a broker: the pins, and what a poll becomes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from faust.types import TP

from schemas.record import Given
from streams import transport
from streams.transport import (
    INTERNALS,
    PINS,
    BatchConsumer,
    BatchSchema,
    PinError,
    Poll,
    as_message,
    check_pins,
    fingerprint,
)
from tests.support.chunks import chunk


def internal() -> int:
    return 1


def test_what_is_installed_is_what_was_read() -> None:
    check_pins(INTERNALS)
    assert len(INTERNALS) >= 5


def test_another_version_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {**dict.fromkeys(PINS, ""), **PINS, "aiokafka": "0.15.0"}
    monkeypatch.setattr(transport, "version", found.__getitem__)
    with pytest.raises(PinError) as caught:
        check_pins(INTERNALS)
    assert (
        str(caught.value)
        == "midstream needs aiokafka 0.14.0, found 0.15.0. Install from the lock: make setup."
    )


def test_a_changed_internal_is_named() -> None:
    with pytest.raises(
        PinError, match=r"the fetcher is not the one that midstream was written for \(\w{12}, not 0{12}\)"
    ):
        check_pins({"the fetcher": (internal, "0" * 12)})


def test_a_fingerprint_is_of_the_source() -> None:
    assert fingerprint(internal) == fingerprint(internal)
    assert fingerprint(internal) != fingerprint(test_a_fingerprint_is_of_the_source)
    check_pins({"internal": (internal, fingerprint(internal))})


def test_the_check_is_made_at_import() -> None:
    program = (
        "import aiokafka, importlib.metadata as m; m.version = lambda name: '9'; import streams.transport"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert (
        "PinError: midstream needs faust-streaming 0.15.3, found 9. Install from the lock: make setup."
        in done.stderr
    )


def test_a_poll_is_one_message_that_ends_at_its_last_record() -> None:
    poll = Poll(3, chunk([Given("t", 2, offset, 1500 + offset, b"k", b"v") for offset in (7, 8, 10)]))
    message = as_message(TP("t", 2), poll, 5)
    assert (message.topic, message.partition, message.offset) == ("t", 2, 10)
    # Faust drops what is not of the present generation; without one, everything.
    assert message.generation_id == 5
    assert message.value is poll  # type: ignore[comparison-overlap] # the point of the transport


def test_a_poll_passes_through_faust_untouched() -> None:
    app: Any = faust.App("test-transport", broker="kafka://nobody", store="memory://")
    poll = Poll(1, chunk([Given("t", 0, 1, 0, None, b"\xff")]))
    message = as_message(TP("t", 0), poll, 1)
    schema = BatchSchema(key_serializer="raw", value_serializer="raw")
    assert schema.loads_value(app, message) is poll


@pytest.mark.parametrize("stops", [True, False])
async def test_a_stop_in_the_middle_of_a_rebalance_is_no_crash(stops: bool) -> None:
    # Faust cancels what waits for polls, and while the group rebalances it makes a crash of what comes out.
    class Waiting(BatchConsumer):
        should_stop = False

        def __init__(self) -> None:
            self.app = SimpleNamespace(should_stop=stops)  # type: ignore[assignment] # all that is asked

        async def _drain_once(self) -> None:
            await asyncio.sleep(60)

    waiting = asyncio.create_task(Waiting()._drain_messages(SimpleNamespace(should_stop=False)))
    await asyncio.sleep(0)
    waiting.cancel()

    (ended,) = await asyncio.gather(waiting, return_exceptions=True)

    assert type(ended) is (type(None) if stops else asyncio.CancelledError)
