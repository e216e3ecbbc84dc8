"""A shard set and a store of millions of samples that take little disk, and what loading from them takes.

Command:  python -m benchmarks.large_set FOLDER   (after ``make``; ``benchmarks.loader`` does both)
Result:   a line of JSON.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from itertools import chain
from pathlib import Path

import torch

from benchmarks.made_shards import grey_image, write_shards
from benchmarks.memory import private_mib
from benchmarks.stores import made_up_block, made_up_manifest, stored_batches
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.store.store import LogitStore

PER_SHARD = 6934  # as ImageNet-21k in 2,048 shards
TOPK, CLASSES = 10, 1000
SPEC = ViewSpec(size=32, auto_augment=None, erase_prob=0)
BATCH, LANES = 1024, 64
PLACES, STEPS = 8, 5  # of an epoch, and steps at each of them: enough to fill every cache


def make(folder: Path, samples: int) -> None:
    """Write the shard set and the store."""
    write_shards(folder / "shards", [grey_image()], -(-samples // PER_SHARD), PER_SHARD)
    names = sorted(path.name for path in (folder / "shards").glob("*.tar"))
    key_hash = ShardSet.load(folder / "shards" / names[0]).index(0).key_hash  # makes the index, too
    for name in names[1:]:
        os.link(folder / "shards" / f"{names[0]}.idx.npz", folder / "shards" / f"{name}.idx.npz")
    info = {"name": "large", "splits": {"train": {"filenames": names, "shard_lengths": [PER_SHARD] * len(names)}}}
    (folder / "shards" / "_info.json").write_text(json.dumps(info))
    manifest = made_up_manifest(dict.fromkeys(names, PER_SHARD), (key_hash,) * len(names), SPEC, TOPK, CLASSES)
    store, block = LogitStore.create(folder / "store", manifest), made_up_block(PER_SHARD, TOPK, CLASSES)
    for shard in range(len(names)):
        store.write_block(shard, 0, block)


def measure(folder: Path) -> dict[str, float]:
    """Seconds to the first batch and memory of a loading process and of the main one."""
    begin = time.perf_counter()
    shards = ShardSet.load(folder / "shards", "train")
    shards.key_hashes()
    opened = time.perf_counter()
    store = LogitStore.open(folder / "store")
    maker = stored_batches(shards, store, BATCH, LANES, verify_rate=0)  # the digests are made up
    starts = [place * maker.plan.steps_per_epoch // PLACES for place in range(PLACES)]
    tasks = chain.from_iterable(range(start, start + STEPS) for start in starts)
    loaded = time.perf_counter()
    peak = 0.0
    with loading(maker, tasks, RuntimeConfig(workers=1, prefetch=1), torch.device("cpu")) as batches:
        next(batches)
        first = time.perf_counter()
        for _ in batches:
            peak = max(peak, *(private_mib(process.pid or 0) for process in multiprocessing.active_children()))
    return {
        "samples": shards.total,
        "opening_s": round(opened - begin, 3),
        "first_batch_s": round(first - loaded, 3),
        "worker_peak_mib": round(peak, 1),
        "main_mib": round(private_mib(os.getpid()), 1),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(measure(Path(sys.argv[1]))))
