"""How near does the loader come to bare views, how does it grow with workers, and with the number of samples?

Command:  python -m benchmarks.loader --photos FOLDER [--split train] [--workers 1 2 4 8 16] [--pin] [--rounds 5]
          [--samples 1000000 14000000] [--results FILE] [--tiny]
Result:   a table of views a second, one of memory and time to the first batch, and a last line of JSON.

Bare views: processes, as many as there are workers, that render the same views from images in memory and do nothing
else, at the same time. The loader does the whole of stage two's input beside it: order, reading images and records,
decoding records, digests, batches. FOLDER is a shard set; a store of it with made-up probabilities is written first.

Processor time is that of the rendering or loading processes alone. On a machine that is busy with other work its ratio
says more than that of rates by the clock.

The last column is the loader's rate over that of a single bare process times the number of workers: what is lost to
memory, to clocks that fall as more cores work, and to cores that are shared. More workers than there are cores are
marked with a star.

The second table is of shard sets that are large, but whose shards are hard links to one tar of tiny images: indexes,
blocks and order are those of so many samples. Every row is a process of its own that opens shards and store as stage
two does and loads batches of 1,024 from 64 lanes with one worker.

FILE has the same JSON, written again after every timing. --tiny is a rehearsal of seconds, which needs no photos.
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
from benchmarks.arguments import cores
from benchmarks.machine import describe
from benchmarks.made_shards import grey_image, write_shards
from benchmarks.stores import made_up_store, stored_batches
from benchmarks.timing import in_turns
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.buffers import BatchMaker
from tinyvit_kd.data.loader import loading, steps_in_work
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.views import native
from tinyvit_kd.views.render import render_views

BATCH, LANES = 64, 8
VIEWS = 2  # of the store
CPU = torch.device("cpu")
Timing = tuple[float, float]  # views a second of all processes, microseconds of processor time per view
WARM_UP = 2  # batches a worker that are not timed


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="folder of a shard set")
    parser.add_argument("--split", default="train")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of loading processes")
    parser.add_argument("--pin", action="store_true", help="as runtime.pin_workers")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8, help="of each timing")
    parser.add_argument("--samples", type=int, nargs="*", default=[1_000_000, 14_000_000], help="of the large sets")
    parser.add_argument("--results", type=Path, help="a JSON file of the result, written again after every timing")
    parser.add_argument("--tiny", action="store_true", help="settings with which it takes seconds, to rehearse it")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.size, options.rounds, options.seconds, options.samples = 32, 1, 0.2, [20_000]
    elif options.photos is None:
        parser.error("--photos is needed, but for --tiny")
    torch.set_num_threads(1)
    result = Result(options)
    with tempfile.TemporaryDirectory() as folder:
        measure_rates(options, Path(folder), result)
        print_rates(result)
        for samples in options.samples:
            result.note_large(samples, measure_large(samples, Path(folder)))
    print_large(result.large)
    print(json.dumps(result.as_json()))


class Result:
    """What has been found so far.

    Attributes:
        rates: views a second of each round, by column.
        costs: microseconds of processor time per view of each round, by column.
        large: what the large sets took, by number of samples.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.workers: list[int] = sorted(set(options.workers))
        self.pinned: bool = options.pin
        self.rates: dict[str, list[float]] = {}
        self.costs: dict[str, list[float]] = {}
        self.large: dict[int, dict[str, float]] = {}
        self._file: Path | None = options.results
        self._machine = describe()

    def noting(self, name: str, measure: Callable[[], Timing]) -> float:
        """A rate, which goes into the file. The first of each column is a round to warm up."""
        rate, cost = measure()
        self.rates.setdefault(name, []).append(rate)
        self.costs.setdefault(name, []).append(cost)
        self._write()
        return rate

    def note_large(self, samples: int, row: dict[str, float]) -> None:
        """Keep what a large set took."""
        self.large[samples] = row
        self._write()

    def rate(self, name: str) -> float | None:
        """Median of a column's rounds, or the round to warm up if there is no other yet."""
        return _median(self.rates.get(name))

    def cheaper(self, workers: int) -> float | None:
        """The processor time of a bare view over that of a view of the loader's."""
        bare, loaded = _median(self.costs.get(f"bare, {workers}")), _median(self.costs.get(f"loader, {workers}"))
        return bare / loaded if bare and loaded else None

    def over(self, workers: int, bare: int) -> float | None:
        """The loader's rate over that of so many bare processes, for each worker of one."""
        loaded, rendered = self.rate(f"loader, {workers}"), self.rate(f"bare, {bare}")
        return loaded / rendered * bare / workers if loaded and rendered else None

    def as_json(self) -> dict[str, Any]:
        """Machine, ratios, rates."""
        shares = {f"over_bare_views_{workers}": self.over(workers, workers) for workers in self.workers}
        single = {f"over_single_bare_views_{workers}": self.over(workers, 1) for workers in self.workers}
        costs = {f"over_bare_processor_time_{workers}": self.cheaper(workers) for workers in self.workers}
        known = {name: round(share, 4) for name, share in (shares | single | costs).items() if share is not None}
        return {
            "machine": self._machine,
            "cores": cores(),
            "renderer": native.describe(),
            "pinned": self.pinned,
            "more_workers_than_cores": [workers for workers in self.workers if workers > cores()],
            "over_bare_views": min((known[name] for name in shares if name in known), default=None),
            **known,
            "views_per_second": {name: round(self.rate(name) or 0, 1) for name in self.rates},
            "processor_us_per_view": {name: round(_median(costs) or 0, 1) for name, costs in self.costs.items()},
            "large_sets": {str(samples): row for samples, row in self.large.items()},
        }

    def _write(self) -> None:
        if self._file is not None:
            write_json(self._file, self.as_json())


def _median(rounds: list[float] | None) -> float | None:
    return statistics.median(rounds[1:] or rounds) if rounds else None


def measure_rates(options: argparse.Namespace, folder: Path, result: Result) -> None:
    """Views a second by column, in interleaved rounds."""
    photos = options.photos
    if photos is None:
        photos = write_shards(folder / "grey", [grey_image()], shards=2, samples=64)
    shards = ShardSet.load(photos, options.split if options.photos else None, index_dir=folder / "indexes")
    store = made_up_store(folder / "store", shards, ViewSpec(size=options.size), topk=100, classes=21841, views=VIEWS)
    columns: dict[str, Callable[[], Timing]] = {}
    for workers in sorted({1, *result.workers}):
        columns[f"bare, {workers}"] = partial(bare_rate, shards, options, workers)
        if workers in result.workers:
            runtime = RuntimeConfig(workers=workers, pin_workers=options.pin)
            maker = stored_batches(shards, store, BATCH, LANES, steps=steps_in_work(runtime))
            columns[f"loader, {workers}"] = partial(loader_rate, maker, BATCH, options.seconds, runtime)
    in_turns({name: partial(result.noting, name, measure) for name, measure in columns.items()}, options.rounds)


def bare_rate(shards: ShardSet, options: argparse.Namespace, processes: int) -> Timing:
    """Processes that only render, together."""
    context = multiprocessing.get_context("fork")
    counts = context.SimpleQueue()
    running = [
        context.Process(target=_render, args=(shards, options, number, processes, counts))
        for number in range(processes)
    ]
    for process in running:
        process.start()
    parts: list[tuple[int, float, float]] = [counts.get() for _ in running]
    for process in running:
        process.join()
    views = sum(count for count, _, _ in parts)
    rate = sum(count / seconds for count, seconds, _ in parts)
    return rate, 1e6 * sum(busy for _, _, busy in parts) / views


def _render(shards: ShardSet, options: argparse.Namespace, number: int, processes: int, counts: Any) -> None:
    spec, reader = ViewSpec(size=options.size), shards.reader()
    images = [
        reader.read(shard, index) for shard, length in enumerate(shards.lengths.tolist()) for index in range(length)
    ]
    images = images[number::processes]
    for seed, image in enumerate(images[: WARM_UP * BATCH]):
        render_views(image, [seed], spec)
    begin, idle, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - begin < options.seconds:
        render_views(images[count % len(images)], [count], spec)
        count += 1
    counts.put((count, time.perf_counter() - begin, time.process_time() - idle))


def loader_rate(
    maker: BatchMaker[int, Batch], size: int, seconds: float, runtime: RuntimeConfig, device: torch.device = CPU
) -> Timing:
    """The loader, once it is under way, with batches of ``size`` views."""
    workers = runtime.workers
    with loading(maker, range(1 << 40), runtime, device) as batches:
        for _ in range(WARM_UP * workers + workers * runtime.prefetch):  # what is there already is used up
            next(batches)
        begin, idle, count = time.perf_counter(), _busy_seconds(), 0
        while time.perf_counter() - begin < seconds or count % workers:
            next(batches)
            count += 1
        views = count * size
        return views / (time.perf_counter() - begin), 1e6 * (_busy_seconds() - idle) / views


def _busy_seconds() -> float:
    """Processor time of all processes that this one has started, if they are running; Linux."""
    # A process's clock is numbered by its id: see clock_getcpuclockid(3).
    children = multiprocessing.active_children()
    return sum(time.clock_gettime((~(child.pid or 0) << 3) | 2) for child in children)


def measure_large(samples: int, folder: Path) -> dict[str, float]:
    """What a fresh process finds."""
    large_set.make(folder / str(samples), samples)
    command = [sys.executable, "-m", "benchmarks.large_set", str(folder / str(samples))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def print_rates(result: Result) -> None:
    """Views a second and the loader's share of the bare ones."""
    print(
        f"{counted(cores(), 'core')}, workers {'pinned to them' if result.pinned else 'not pinned'}\n\n"
        "| workers | bare views/s | loader, views/s | loader over bare | bare over loader, processor time "
        "| loader over a single bare process times workers |\n|---|---|---|---|---|---|"
    )
    for workers in result.workers:
        bare, loaded = result.rate(f"bare, {workers}") or 0, result.rate(f"loader, {workers}") or 0
        star = "*" if workers > cores() else ""
        print(
            f"| {workers}{star} | {bare:,.0f} | {loaded:,.0f} | {result.over(workers, workers) or 0:.3f} "
            f"| {result.cheaper(workers) or 0:.3f} | {result.over(workers, 1) or 0:.3f} |"
        )
    if max(result.workers) > cores():
        print(f"\n* more workers than cores: they share {counted(cores(), 'core')}")


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
