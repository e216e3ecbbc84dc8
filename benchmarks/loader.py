"""How near does the loader come to bare views, and does it grow with the number of samples?

Command:  python -m benchmarks.loader --photos FOLDER [--split train] [--rounds 5] [--samples 1000000 14000000]
Result:   a table of views a second, one of memory and time to the first batch, and a last line of JSON.

Bare views: processes, as many as there are workers, that render the same views from images in memory and do nothing
else, at the same time. The loader does the whole of stage two's input beside it: order, reading images and records,
decoding records, digests, batches. FOLDER is a shard set; a store of it with made-up probabilities is written first.

The second table is of shard sets that are large, but whose shards are hard links to one tar of tiny images: indexes,
blocks and order are those of so many samples. Every row is a process of its own that opens shards and store as stage
two does and loads batches of 1,024 from 64 lanes with one worker.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import large_set
from benchmarks.machine import describe
from benchmarks.stores import made_up_store, stored_batches
from benchmarks.timing import in_turns
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.buffers import BatchMaker
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.views import native
from tinyvit_kd.views.render import render_views

WORKERS, BATCH, LANES = (1, 2), 64, 8
VIEWS = 2  # of the store
CPU = torch.device("cpu")
WARM_UP = 2  # batches a worker that are not timed


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of a shard set")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8, help="of each timing")
    parser.add_argument("--samples", type=int, nargs="*", default=[1_000_000, 14_000_000], help="of the large sets")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        rates = measure_rates(options, Path(folder))
        print_rates(rates)
        large = {samples: measure_large(samples, Path(folder)) for samples in options.samples}
    print_large(large)
    shares = {
        f"over_bare_views_{workers}": round(rates[f"loader, {workers}"] / rates[f"bare, {workers}"], 4)
        for workers in WORKERS
    }
    result = {
        "machine": describe(),
        "renderer": native.describe(),
        "over_bare_views": min(shares.values()),
        **shares,
        "views_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "large_sets": {str(samples): row for samples, row in large.items()},
    }
    print(json.dumps(result))


def measure_rates(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Views a second by column, medians of interleaved rounds."""
    shards = ShardSet.load(options.photos, options.split, index_dir=folder / "indexes")
    store = made_up_store(folder / "store", shards, ViewSpec(size=options.size), topk=100, classes=21841, views=VIEWS)
    columns: dict[str, Callable[[], float]] = {}
    for workers in WORKERS:
        columns[f"bare, {workers}"] = partial(bare_rate, shards, options, workers)
        maker = stored_batches(shards, store, BATCH, LANES)
        columns[f"loader, {workers}"] = partial(loader_rate, maker, BATCH, options.seconds, workers)
    return {name: statistics.median(rates) for name, rates in in_turns(columns, options.rounds).items()}


def bare_rate(shards: ShardSet, options: argparse.Namespace, processes: int) -> float:
    """Views a second of processes that only render, together."""
    context = multiprocessing.get_context("fork")
    counts = context.SimpleQueue()
    running = [
        context.Process(target=_render, args=(shards, options, number, processes, counts))
        for number in range(processes)
    ]
    for process in running:
        process.start()
    rates = [counts.get() for _ in running]
    for process in running:
        process.join()
    return float(sum(rates))


def _render(shards: ShardSet, options: argparse.Namespace, number: int, processes: int, rates: Any) -> None:
    spec, reader = ViewSpec(size=options.size), shards.reader()
    images = [
        reader.read(shard, index) for shard, length in enumerate(shards.lengths.tolist()) for index in range(length)
    ]
    images = images[number::processes]
    for seed, image in enumerate(images[: WARM_UP * BATCH]):
        render_views(image, [seed], spec)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < options.seconds:
        render_views(images[count % len(images)], [count], spec)
        count += 1
    rates.put(count / (time.perf_counter() - begin))


def loader_rate(
    maker: BatchMaker[int, Batch], size: int, seconds: float, workers: int, device: torch.device = CPU
) -> float:
    """Views a second of the loader, once it is under way, with batches of ``size`` views."""
    with loading(maker, range(1 << 40), RuntimeConfig(workers=workers), device) as batches:
        for _ in range(WARM_UP * workers + workers * RuntimeConfig().prefetch):  # what is there already is used up
            next(batches)
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds or count % workers:
            next(batches)
            count += 1
        return count * size / (time.perf_counter() - begin)


def measure_large(samples: int, folder: Path) -> dict[str, float]:
    """What a fresh process finds."""
    large_set.make(folder / str(samples), samples)
    command = [sys.executable, "-m", "benchmarks.large_set", str(folder / str(samples))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def print_rates(rates: dict[str, float]) -> None:
    """Views a second and the loader's share of the bare ones."""
    print("| workers | bare views/s | loader, views/s | loader over bare |\n|---|---|---|---|")
    for workers in WORKERS:
        bare, loaded = rates[f"bare, {workers}"], rates[f"loader, {workers}"]
        print(f"| {workers} | {bare:,.0f} | {loaded:,.0f} | {loaded / bare:.3f} |")


def print_large(rows: dict[int, dict[str, float]]) -> None:
    """Memory and times by number of samples."""
    print(
        "\n| samples | opening, s | first batch, s | loading process, MiB | main process, MiB |\n|---|---|---|---|---|"
    )
    for row in rows.values():
        print(
            f"| {row['samples']:,.0f} | {row['opening_s']:.2f} | {row['first_batch_s']:.2f} "
            f"| {row['worker_peak_mib']:.0f} | {row['main_mib']:.0f} |"
        )


if __name__ == "__main__":
    main()
