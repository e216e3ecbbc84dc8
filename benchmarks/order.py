"""What lanes and windows mix, and what they cost: from how many shards a batch comes, and the time to read it.

Command:  python -m benchmarks.order FOLDER   (of its own; it is filled with tars, which take little disk)
Result:   a table, and a last line of JSON.

The set has as many samples as ImageNet-22k, in shards of 5,000. Classes are counted for labels that are sorted along
all shards, as in tars of one class after the other; of mixed shards a batch has as many as of a full shuffle.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.machine import describe
from benchmarks.made_shards import grey_image, write_shards
from benchmarks.memory import private_mib
from tinyvit_kd.batches.labels import Labels
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.data.shards import ShardSet

SHARDS, PER_SHARD, CLASSES, BATCH = 2800, 5000, 21841, 4096
RANKS = 8
ORDERS = ((64, 4096), (64, 65536), (512, 4096), (4096, 4096))  # lanes and window
STEPS = 8  # measured in each order, spread over an epoch


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure all orders, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of its own, which is filled with tars")
    shards = _open(parser.parse_args(arguments).folder)
    rows = [_measure(shards, lanes, window) for lanes, window in ORDERS]
    shuffled = _full_shuffle()
    for row in [*rows, shuffled]:
        print("  ".join(f"{name} {value:,}" for name, value in row.items()))
    print(json.dumps({"machine": describe(), "orders": rows, "full shuffle": shuffled}))


def _open(folder: Path) -> ShardSet:
    if not (folder / "_info.json").exists():
        write_shards(folder, [grey_image()], SHARDS, PER_SHARD)
        names = sorted(path.name for path in folder.glob("*.tar"))
        ShardSet.load(folder / names[0]).index(0)
        for name in names[1:]:  # the tars are the same
            os.link(folder / f"{names[0]}.idx.npz", folder / f"{name}.idx.npz")
        info = {"name": "order", "splits": {"train": {"filenames": names, "shard_lengths": [PER_SHARD] * SHARDS}}}
        (folder / "_info.json").write_text(json.dumps(info))
    return ShardSet.load(folder)


def _measure(shards: ShardSet, lanes: int, window: int) -> dict[str, float]:
    """One order: what is in a global batch, and what its part costs each of eight ranks."""
    schedule = ScheduleConfig(epochs=1, global_batch_size=BATCH, lanes=lanes, window=window)
    lengths = (PER_SHARD,) * SHARDS
    whole = StepPlan(lengths, schedule, range(lanes))
    spread = [step * whole.steps_per_epoch // STEPS for step in range(STEPS)]
    costs = _in_a_process(shards, StepPlan(lengths, schedule, rank_lanes(lanes, 0, RANKS)), "of eight ranks")
    costs |= _in_a_process(shards, whole, "alone")  # first: what this process computes is not computed in those again
    mixed = [_mixture(*whole.samples(step)[1:]) for step in spread]
    return {
        "lanes": lanes,
        "window": window,
        "shards per batch": round(float(np.mean([each[0] for each in mixed])), 1),
        "classes per batch if sorted": round(float(np.mean([each[1] for each in mixed])), 1),
        **costs,
    }


def _in_a_process(shards: ShardSet, plan: StepPlan, who: str) -> dict[str, float]:
    """``_costs`` in a process of its own, as loading processes are."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_costs, (shards, plan, who))


def _costs(shards: ShardSet, plan: StepPlan, who: str) -> dict[str, float]:
    """Milliseconds of a rank's first batch and later ones, without decoding, and memory of one loading process."""
    reader = shards.reader(plan.shards_at_a_time)
    before, times = private_mib(os.getpid()), []
    for step in range(STEPS):
        begin = time.perf_counter()
        _, numbers, indexes = plan.samples(step)
        Labels(reader).gather(numbers, indexes)
        for shard, index in zip(numbers.tolist(), indexes.tolist(), strict=True):
            reader.read(shard, index)
        times.append(1000 * (time.perf_counter() - begin))
    return {
        f"first ms, {who}": round(times[0], 1),
        f"later ms, {who}": round(float(np.median(times[1:])), 1),
        f"MiB, {who}": round(private_mib(os.getpid()) - before, 1),
    }


def _mixture(shards: np.ndarray, indexes: np.ndarray) -> tuple[int, int]:
    """Distinct shards and, of sorted labels, classes among some samples."""
    labels = (shards.astype(np.int64) * PER_SHARD + indexes) * CLASSES // (SHARDS * PER_SHARD)
    return len(np.unique(shards)), len(np.unique(labels))


def _full_shuffle() -> dict[str, float]:
    generator = np.random.default_rng(0)
    drawn = [generator.choice(SHARDS * PER_SHARD, BATCH, replace=False) for _ in range(STEPS)]
    mixed = [_mixture(each // PER_SHARD, each % PER_SHARD) for each in drawn]
    return {
        "shards per batch": round(float(np.mean([each[0] for each in mixed])), 1),
        "classes per batch if sorted": round(float(np.mean([each[1] for each in mixed])), 1),
    }


if __name__ == "__main__":
    main()
