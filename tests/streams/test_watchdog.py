"""streams/watchdog.py: a loop that stands still is noticed from outside, and the function in it is named."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from streams.watchdog import Where, describe, is_authors, where

PROGRAM = """
import asyncio, sys, threading, time
from datetime import UTC, datetime
from streams import Event, Pipeline, State, watchdog
from streams.memory import happened, run

watchdog.LOOK_S = 0.05
shop = Pipeline("shop", version=1)

class Paid(Event, type="order.paid"):
    order_id: str

class Order(State):
    paid: bool = False

order = shop.entity("order", Order, key="order_id", order="latest")

@order.on(Paid)
def paid(state: Order, event: Paid) -> Order:
    while True:
        time.sleep(0.01)

async def main() -> None:
    dog = watchdog.Watchdog("shop", float(sys.argv[1]))
    threading.Thread(target=dog.watch, daemon=True).start()
    turning = asyncio.create_task(dog.turn())
    await asyncio.sleep(0.5)
    if sys.argv[2] == "hang":
        run(shop, [happened(Paid(order_id="o1"), datetime(2024, 5, 1, tzinfo=UTC), "e1")])
    turning.cancel()

asyncio.run(main())
"""


def ended(tmp_path: Path, limit_s: float, mode: str) -> subprocess.CompletedProcess[str]:
    program = tmp_path / "shop.py"
    program.write_text(PROGRAM)
    return subprocess.run(
        [sys.executable, str(program), str(limit_s), mode],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )


def test_a_reducer_that_never_returns_ends_the_process_and_is_named(tmp_path: Path) -> None:
    done = ended(tmp_path, 0.5, "hang")
    assert done.returncode == 70
    last = done.stderr.strip().splitlines()[-1]
    told = r"midstream: stopped: shop: paid \(shop\.py:\d+\) has not returned for 0\.5 s on events/0 offset 1, so"
    assert re.match(told, last), last
    assert "mend the function first" in last


def test_a_loop_that_turns_is_left_alone(tmp_path: Path) -> None:
    done = ended(tmp_path, 0.3, "turn")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_a_function_of_the_authors_the_innermost_is_named() -> None:
    assert where(None) == Where("the event loop", "")
    here = where(sys._getframe())
    assert here.function.startswith("test_without_a_function_of_the_authors_the_innermost_is_named")
    assert describe(here, 3).startswith(
        f"{here.function} has not returned for 3 s, so nothing was committed."
    )


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (__file__, True),
        ("<string>", False),
        (subprocess.__file__, False),
        (pytest.__file__, False),
        (str(Path(__file__).parents[2] / "streams" / "lanes.py"), False),
    ],
)
def test_the_authors_files_are_told_from_ours_and_libraries(file: str, expected: bool) -> None:
    assert is_authors(file) is expected
