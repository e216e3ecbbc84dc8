"""What a loader worker needs before it has its first record, and in memory; run in a process of its own.

``python -m benchmarks.stored.worker STORE …`` opens a store and reads batches as stage two does; ``… FOLDER --raw``
loads the keys of an official file. A line of JSON comes out. Imports are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.memory import private_mib
from benchmarks.stored.rates import plan_for
from benchmarks.stored.raw import LeanReader, load_keys
from benchmarks.stored.records import official_key
from tinyvit_kd.batches.stored_batches import block_caches
from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.store.store import LogitStore

Numbers = dict[str, float]


def main() -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4096, help="of all processes")
    parser.add_argument("--workers", type=int, default=14, help="of each process")
    parser.add_argument("--batches", type=int, default=50)
    parser.add_argument("--raw", action="store_true")
    options = parser.parse_args()
    print(json.dumps(official(options.path) if options.raw else ours(options)))


def run(path: Path, *options: str) -> Numbers:
    """Measure in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.stored.worker", str(path), *options]
    ended = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    numbers: Numbers = json.loads(ended.stdout.splitlines()[-1])
    return numbers


def ours(options: argparse.Namespace) -> Numbers:
    """Open the store, plan the order, read batches."""
    before, begin = private_mib(os.getpid()), time.perf_counter()
    store = LogitStore.open(options.path)
    plan = plan_for(store, options.processes, options.batch)
    (cache,) = block_caches(StoredTargetsConfig(path=options.path), [store], plan)
    epoch, shards, indexes = plan.samples(0)
    planned = time.perf_counter()
    cache.gather(shards[:1], indexes[:1], epoch)
    first = time.perf_counter()
    cache.gather(shards, indexes, epoch)
    ready, peak = time.perf_counter(), private_mib(os.getpid())
    for number in range(1, options.batches):
        _, shards, indexes = plan.samples(number * options.workers)
        cache.gather(shards, indexes, 0)
        peak = max(peak, private_mib(os.getpid()))
    return {
        "planned_s": planned - begin,
        "first_record_s": first - begin,
        "first_batch_s": ready - begin,
        "mib": peak - before,
        "blocks_kept_at_most": cache.slots,
    }


def official(folder: Path) -> Numbers:
    """Load the keys, read the first record."""
    before, begin = private_mib(os.getpid()), time.perf_counter()
    keys = load_keys(folder)
    reader = LeanReader(folder, 1, keys)
    reader.read(official_key(0))
    seconds = time.perf_counter() - begin
    return {"first_record_s": seconds, "mib": private_mib(os.getpid()) - before, "keys": len(keys)}


if __name__ == "__main__":
    main()
