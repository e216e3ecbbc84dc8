"""What do loading processes of one rank cost when they read a store: blocks decompressed, rates and memory?

Command:  python -m benchmarks.store_workers [--workers 1 2 4 8 14] [--lanes 64] [--ranks 8] [--batch 4096]
          [--shards 512] [--topk 100] [--steps N] [--rounds 3] [--scratch FOLDER] [--results FILE] [--tiny]
Result:   a table, and a last line of JSON.

A store with made-up records, of shards as long as those of ImageNet-21k in 2,048, is written first: about 1.1 MB a
block. Then processes read the records of the first rank's batches, in the recipes' order and without any images: as
many batches as go through four windows of each lane, or --steps. They take batches in turn as loading processes do, and
stay as near to each other. "Shared": with one cache of blocks, as in the loader; "separate": each with its own.

* Blocks decompressed are those of all processes together; "needed" is how many different ones there are.
* Records a second of a worker are over its own processor time, waiting and other processes not counted, so that they
  mean something on fewer cores than workers, too. There, rates in all, which are by the clock, say little.
* Memory is the proportional share (Pss) of the main process and its workers together, libraries included, after the
  last batch: what is shared counts once.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from benchmarks.arguments import cores
from benchmarks.local_files import store_folder
from benchmarks.machine import describe
from benchmarks.memory import pss_mib
from benchmarks.stores import made_up_block, made_up_manifest
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import block_caches
from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.config.training import RuntimeConfig, ScheduleConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.loader import steps_in_work
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.store.cache import BlockCache
from tinyvit_kd.store.encodings import Planes
from tinyvit_kd.store.store import LogitStore

PER_SHARD = 6934  # as ImageNet-21k in 2,048 shards
CLASSES = 21841
WINDOWS = 4  # of each lane that are read
CONTEXT = multiprocessing.get_context("fork")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 14], help="numbers of processes")
    parser.add_argument("--kinds", nargs="+", choices=("shared", "separate"), default=["separate", "shared"])
    parser.add_argument("--lanes", type=int, default=64)
    parser.add_argument("--ranks", type=int, default=8, help="processes that train; the first one is measured")
    parser.add_argument("--batch", type=int, default=4096, help="of all ranks")
    parser.add_argument("--shards", type=int, default=512)
    parser.add_argument("--per-shard", type=int, default=PER_SHARD, help="samples")
    parser.add_argument("--topk", type=int, default=100)
    parser.add_argument("--steps", type=int, help="that are read; null: four windows of each lane")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="an existing folder for the store; null: the system's")
    parser.add_argument("--results", type=Path, help="a JSON file of the result, written again after every timing")
    parser.add_argument("--tiny", action="store_true", help="settings with which it takes seconds, to rehearse it")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.shards, options.per_shard, options.rounds, options.workers = 32, 100, 1, [1, 3]
        options.lanes, options.ranks, options.batch = 8, 1, 64
    torch.set_num_threads(1)
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
        store = fill(Path(folder) / "store", options)
        for _ in range(options.rounds):
            for workers in options.workers:
                for kind in options.kinds:
                    found.setdefault(f"{kind}, {workers}", []).append(measure(store, options, workers, kind))
                    if options.results is not None:
                        write_json(options.results, result_of(found, options))
    result = result_of(found, options)
    print_table(result, options)
    print(json.dumps(result))


class Counting(LogitStore):
    """A store that counts the blocks that all processes decompress."""

    count: Any  # an integer that processes share

    def read_planes(self, shard: int, view: int) -> Planes:
        """Count, and read."""
        with self.count.get_lock():
            self.count.value += 1
        return super().read_planes(shard, view)


def fill(path: Path, options: argparse.Namespace) -> Counting:
    """Write a store, all of whose blocks have the same records."""
    names = {f"made-up-{shard:06d}.tar": options.per_shard for shard in range(options.shards)}
    spec = ViewSpec(size=224)
    store = Counting.create(path, made_up_manifest(names, (1,) * len(names), spec, options.topk, CLASSES))
    block = made_up_block(options.per_shard, options.topk, CLASSES)
    for shard in range(options.shards):
        store.write_block(shard, 0, block)
    assert isinstance(store, Counting)
    return store


def measure(store: Counting, options: argparse.Namespace, workers: int, kind: str) -> dict[str, float]:
    """Read in so many processes, with one cache or with a cache each."""
    schedule = ScheduleConfig(epochs=1, global_batch_size=options.batch, lanes=options.lanes)
    plan = StepPlan(store.manifest.shard_lengths, schedule, rank_lanes(options.lanes, 0, options.ranks))
    windows = WINDOWS * schedule.window * options.lanes // options.batch
    steps = min(plan.steps_per_epoch, options.steps or windows)
    apart = steps_in_work(RuntimeConfig(workers=workers)) if kind == "shared" else 1
    (cache,) = block_caches(StoredTargetsConfig(path=store_folder(store)), [store], plan, apart)
    store.count = CONTEXT.Value("q", 0)
    next_step, told, ended = CONTEXT.Value("q", 0), CONTEXT.SimpleQueue(), CONTEXT.Event()
    with cache.shared() if kind == "shared" else nullcontext():
        arguments = (cache, plan, steps, next_step, told, ended)
        processes = [CONTEXT.Process(target=_read, args=arguments) for _ in range(workers)]
        begin = time.perf_counter()
        for process in processes:
            process.start()
        parts = [told.get() for _ in processes]
        seconds = time.perf_counter() - begin
        memory = pss_mib([os.getpid(), *(process.pid or 0 for process in processes)])
        ended.set()
        for process in processes:
            process.join()
    records, busy, different = (sum(part[0] for part in parts), sum(part[1] for part in parts), set())
    for part in parts:
        different |= part[2]
    return {
        "records": records,
        "blocks_decompressed": store.count.value,
        "blocks_needed": len(different),
        "slots": cache.slots,
        "records_per_s_of_a_worker": round(records / busy),
        "records_per_s_in_all": round(records / seconds),
        "pss_mib": round(memory, 1),
    }


def _read(cache: BlockCache, plan: StepPlan, steps: int, next_step: Any, told: Any, ended: Any) -> None:
    records, busy, different = 0, 0.0, set[int]()
    while True:
        with next_step.get_lock():
            step = next_step.value
            next_step.value += 1
        if step >= steps:
            break
        epoch, shards, indexes = plan.samples(step)
        begin = time.process_time()
        cache.gather(shards, indexes, epoch)
        busy += time.process_time() - begin
        records += len(shards)
        different.update(shards.tolist())
    told.put((records, busy, different))
    ended.wait()


def result_of(found: dict[str, list[dict[str, float]]], options: argparse.Namespace) -> dict[str, Any]:
    """Medians of the rounds."""
    medians = {
        name: {field: statistics.median(row[field] for row in rows) for field in rows[0]}
        for name, rows in found.items()
    }
    asked = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    return {"machine": describe(), "cores": cores(), "settings": asked, "cases": medians}


def print_table(result: dict[str, Any], options: argparse.Namespace) -> None:
    """A line for each number of workers."""
    print(
        f"{counted(result['cores'], 'core')}; {options.lanes} lanes, the first of {counted(options.ranks, 'rank')}, "
        f"top {options.topk}\n\n| workers, cache | blocks decompressed | needed | records/s of a worker | records/s in "
        "all | MiB in all |\n|---|---|---|---|---|---|"
    )
    for name, row in result["cases"].items():
        kind, _, workers = name.partition(", ")
        star = "*" if int(workers) > result["cores"] else ""
        print(
            f"| {workers}{star}, {kind} | {row['blocks_decompressed']:,.0f} | {row['blocks_needed']:,.0f} "
            f"| {row['records_per_s_of_a_worker']:,.0f} | {row['records_per_s_in_all']:,.0f} | {row['pss_mib']:,.0f} |"
        )
    if max(options.workers) > result["cores"]:
        print(f"\n* more workers than cores: they share {counted(result['cores'], 'core')}")
    print()


if __name__ == "__main__":
    main()
