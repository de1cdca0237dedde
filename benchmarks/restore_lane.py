"""One lane's restore in a process of its own: a changelog and an empty disk come in, figures go out as JSON.

As in a worker: uvloop, the cyclic collector off. The database is closed before the clock stops.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from streams.heads import Heads
from streams.metrics import Metrics
from streams.restore import restore
from streams.settings import load_settings
from tables.store import Store

STUCK_S = 90.0


async def measured(topic: str, partition: int, folder: Path) -> dict[str, Any]:
    """Restore one changelog partition into a new database."""
    metrics = Metrics()
    # Threads, connections and RocksDB itself are a worker's start, not a lane's restore.
    store = Store(folder)
    started_s, cpu_s = time.monotonic(), time.process_time()
    clients = load_settings().client_options()
    await restore(clients, store, {topic: "rows"}, partition, "benchmark", STUCK_S, metrics, Heads())
    store.close()
    seconds = time.monotonic() - started_s
    records = metrics.registry.get_sample_value("midstream_restored_records_total")
    return {
        "records": int(records or 0),
        "seconds": seconds,
        "cpu_s": time.process_time() - cpu_s,
        # Kibibytes on Linux: getrusage(2).
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    """Restore TOPIC PARTITION into FOLDER."""
    topic, partition, folder = sys.argv[1:]
    gc.disable()
    print(json.dumps(uvloop.run(measured(topic, int(partition), Path(folder)))))


if __name__ == "__main__":
    main()
