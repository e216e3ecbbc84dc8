"""What does a run's bookkeeping take at 14.2 million and at a billion samples, on 8, 64 and 512 ranks?

Command:  python -m benchmarks.scale [--results FILE] [--tiny]
Result:   three tables, and a last line of JSON.

Metadata alone: no image is read. Tars are hard links to one of tiny images, blocks are empty files, and what there is
too much of is made up in memory: what is measured is the package's own code on it, in processes of their own.

A set: rank 0 opens it by all indexes (of the first 1,000 shards; the seconds are for all), and a machine's first rank
looks at all tars (likewise); the other ranks open it by what rank 0 tells them, and load a manifest. A rank: the first
and the later batches of its order, without reading a sample, with as many lanes as ranks but no less than 64, and what
its private memory grows by; blocks are those that it keeps at a time. Blocks: those of the smaller set on a disk, all
but one in a thousand of them present, and those of the larger set in memory, all of them missing. Checkpoints: of runs
over two sets, of which the second is eight times the first.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.machine import describe
from benchmarks.made_shards import grey_image, write_shards
from benchmarks.memory import private_mib
from benchmarks.stores import made_up_manifest, made_up_store
from benchmarks.tiny_world import NETWORK, VIEWS, World
from tinyvit_kd.batches.dump_tasks import Groups
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.indexing.summaries import COLUMNS, Summaries
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.runtime.wording import table
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.store.block_slots import SlotSizes
from tinyvit_kd.store.cache import block_bytes
from tinyvit_kd.store.codec import row_bytes
from tinyvit_kd.store.listing import missing_table
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import block_name
from tinyvit_kd.training.checkpoint_files import CHECKPOINTS, checkpoints

STORED, TOPK, CLASSES, PER_DECODE = 90, 100, 21841, 10  # views, and the store's other numbers
BATCH, LANES = 4096, 64  # lanes where there are no more ranks
STEPS = 20  # timed, spread over an epoch
ROUNDS = 3
Row = dict[str, float]


@dataclass(frozen=True)
class Size:
    """A shard set on paper."""

    name: str
    shards: int
    per_shard: int

    @property
    def samples(self) -> int:
        """Of the whole set."""
        return self.shards * self.per_shard

    @property
    def lengths(self) -> tuple[int, ...]:
        """Samples of each shard."""
        return (self.per_shard,) * self.shards


SIZES = (Size("14.2M", 2800, 5072), Size("1B", 100_000, 10_000))
TINY = (Size("10k", 20, 500), Size("40k", 80, 500))
RANKS = (8, 64, 512)
RUNS = (256, 2048)  # samples
OPENED = 1000  # shards that are there


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="a JSON file of the result")
    parser.add_argument("--tiny", action="store_true", help="sizes with which it takes seconds, to rehearse it")
    options = parser.parse_args(arguments)
    sizes, ranks = (TINY, (8, 64)) if options.tiny else (SIZES, RANKS)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = {size.name: _of_set(size, folder / size.name) for size in sizes}
        of_ranks = {f"{size.name}, {count} ranks": _apart(_of_rank, size, count) for size in sizes for count in ranks}
        blocks = {"listed": _listed(sizes[0], folder / "blocks"), "in memory": _apart(_in_memory, sizes[1])}
        of_runs = {str(samples): _checkpoint_bytes(samples, folder / f"run {samples}") for samples in RUNS}
    _print("set", sets)
    _print("rank", of_ranks)
    _print("blocks", blocks)
    print(f"checkpoints of runs over {' and '.join(of_runs)} samples: {of_runs} bytes")
    result = {"machine": describe(), "sets": sets, "ranks": of_ranks, "blocks": blocks}
    result |= {"checkpoint_bytes": of_runs}
    if options.results is not None:
        write_json(options.results, result)
    print(json.dumps(result))


def _print(what: str, rows: dict[str, Row]) -> None:
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [[what, *names], *([name, *(f"{row.get(each, 0):,.6g}" for each in names)] for name, row in rows.items())]
    print(table(list(zip(*cells, strict=True)), right=range(1, len(cells))), end="\n\n")


def _apart(measure: Callable[..., Row], *arguments: object) -> Row:
    """The figures of a process of its own, whose memory nothing else has grown."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(measure, arguments)


def _timed(work: Callable[[], object]) -> float:
    """Seconds, the median of some rounds."""
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begin)
    return round(statistics.median(seconds), 4)


def _of_set(size: Size, folder: Path) -> Row:
    """What opening a set takes."""
    opened = min(OPENED, size.shards)
    write_shards(folder, [grey_image()], opened, size.per_shard)
    there = sorted(path.name for path in folder.glob("*.tar"))
    ShardSet.load(folder / there[0]).index(0)
    for name in there[1:]:  # the tars are the same
        os.link(folder / f"{there[0]}.idx.npz", folder / f"{name}.idx.npz")
    names = [*there, *(f"photos-{shard:06d}.tar" for shard in range(opened, size.shards))]
    write_json(folder / "_info.json", {"splits": {"train": {"filenames": names, "shard_lengths": size.lengths}}})
    some = ShardSet.load(str(folder / "*.tar"))
    known = some.known
    assert known is not None
    whole = Summaries(**{name: np.resize(getattr(known, name), size.shards) for name in COLUMNS}, leftovers=Leftovers())
    told = pickle.dumps(whole)
    manifest = made_up_manifest(
        dict.fromkeys(names, size.per_shard), tuple(whole.key_hash.tolist()), ViewSpec(), TOPK, CLASSES, STORED
    )
    manifest.save(LocalStorage(str(folder)))
    share = size.shards / opened
    return {
        "samples": size.samples,
        "shards": size.shards,
        "rank 0 opens, s": round(share * _timed(lambda: list(some.summaries())), 3),
        "first of a machine looks, s": round(share * _timed(lambda: _look(some)), 3),
        "told to others, MiB": round(len(told) / 2**20, 2),
        **_apart(_opened_by_another, folder, told),
        "manifest, MiB": round((folder / "manifest.json").stat().st_size / 2**20, 2),
    }


def _look(shards: ShardSet) -> None:
    with shards.files() as files:
        for location in shards.locations:
            files.info(location)


def _opened_by_another(folder: Path, told: bytes) -> Row:
    """What opening takes on a rank that is told of the indexes, and what it then keeps in memory."""
    before = private_mib(os.getpid())
    kept: list[Any] = []

    def open_set() -> None:
        kept[:] = [ShardSet.located(folder)[0].indexed(pickle.loads(told))]

    seconds = _timed(open_set)
    loading = _timed(lambda: kept.append(Manifest.load(LocalStorage(str(folder)))))
    del kept[2:]
    return {
        "others open, s": seconds,
        "manifest, s": loading,
        "a rank keeps, MiB": round(private_mib(os.getpid()) - before, 1),
    }


def _of_rank(size: Size, ranks: int) -> Row:
    """The order and the blocks of the first of so many ranks."""
    schedule = ScheduleConfig(epochs=STORED, global_batch_size=BATCH, lanes=max(LANES, ranks))
    lanes = rank_lanes(schedule.lanes, 0, ranks)
    before = private_mib(os.getpid())
    plan = StepPlan(size.lengths, schedule, lanes, stored=ViewSchedule(1, ((0, STORED),)))
    begin = time.perf_counter()
    plan.samples(0)
    first = time.perf_counter() - begin
    seconds = []
    for step in range(1, STEPS + 1):
        begin = time.perf_counter()
        plan.samples(step)
        seconds.append(time.perf_counter() - begin)
    grown = private_mib(os.getpid()) - before
    manifest = made_up_manifest({"": size.per_shard}, (0,), ViewSpec(), TOPK, CLASSES, STORED)
    slots = plan.blocks_at_a_time(steps=8)
    sizes = SlotSizes(STORED * size.shards, slots, size.per_shard, row_bytes("compact", TOPK, CLASSES))
    return {
        "lanes": schedule.lanes,
        "samples per step": BATCH // ranks,
        "first batch, ms": round(1000 * first, 2),
        "later ones, ms": round(1000 * statistics.median(seconds), 3),
        "order, MiB": round(grown, 1),
        "shards at a time": plan.shards_at_a_time,
        "blocks, MiB": round(slots * block_bytes(manifest) / 2**20, 1),
        "table of blocks, MiB": round(sizes.table_bytes / 2**20, 1),
    }


def _listed(size: Size, folder: Path) -> Row:
    """How long it takes to find the missing blocks of a store on a disk."""
    for shard in range(size.shards):
        (folder / block_name(shard, 0)).parent.mkdir(parents=True)
        for view in range(STORED):
            if (shard * STORED + view) % 1000:
                (folder / block_name(shard, view)).touch()
    storage = LocalStorage(str(folder))
    missing = missing_table(storage, size.lengths, range(STORED))
    assert missing.sum() == -(-missing.size // 1000)
    seconds = _timed(lambda: missing_table(storage, size.lengths, range(STORED)))
    return {"blocks": missing.size, "listing, s": seconds} | _divided(missing, size)


def _in_memory(size: Size) -> Row:
    return {"blocks": size.shards * STORED} | _divided(np.ones((size.shards, STORED), dtype=np.bool_), size)


def _divided(missing: np.ndarray, size: Size) -> Row:
    """What the missing blocks take to be told to all ranks, and to be divided between them."""
    before = private_mib(os.getpid())
    groups: list[Groups] = []
    seconds = _timed(lambda: groups.append(Groups(missing, size.lengths, PER_DECODE)))
    del groups[1:]
    return {
        "told to others, MiB": round(len(pickle.dumps(missing)) / 2**20, 2),
        "groups": len(groups[0]),
        "dividing, s": seconds,
        "groups, MiB": round(private_mib(os.getpid()) - before, 1),
        "taking a group, µs": round(1e6 * _timed(lambda: groups[0][len(groups[0]) // 2]), 1),
    }


def _checkpoint_bytes(samples: int, folder: Path) -> int:
    """Size of the checkpoint that a run over so many samples ends with."""
    write_shards(folder / "shards", [grey_image()], shards=2, samples=samples // 2)
    names = sorted(path.name for path in (folder / "shards").iterdir())
    info = {"splits": {"train": {"filenames": names, "shard_lengths": [samples // 2] * 2}}}
    write_json(folder / "shards" / "_info.json", info)
    made_up_store(
        folder / "store", ShardSet.load(folder / "shards"), ViewSpec.model_validate(VIEWS), topk=5, classes=40, views=1
    )
    schedule = {"epochs": 1, "global_batch_size": 64, "lanes": 8, "warmup_epochs": 0.5}
    config = World(folder).pretrain(
        schedule=schedule, output=str(folder / "run"), student={"tiny_vit": NETWORK}, runtime={"workers": 0}
    )
    pretrain(config, solo_job())
    return checkpoints(folder / "run" / CHECKPOINTS)[0].stat().st_size


if __name__ == "__main__":
    main()
