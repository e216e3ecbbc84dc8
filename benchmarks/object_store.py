"""Do batches come as fast from an object store, once the cache is warm, as from the disk, and how soon at first?

Command:  python -m benchmarks.object_store [--photos FOLDER] [--shards 4] [--samples 1024] [--workers 2] [--lanes 8]
          [--rounds 5] [--results FILE] [--tiny]
Result:   a table of views a second, and a last line of JSON.

The server (``benchmarks.file_server``) runs on this machine and shares the processor with the loader, so what comes
through an empty cache says little of a cluster. Once it is full, nothing comes from the server but sizes and indexes.

Columns, in turns: an epoch of stage two's batches, and a pass of stage one's, from the disk, through an empty cache and
through a full one. Clocks begin with the first batch. For an empty cache there is also the time from when its first
shard had arrived to the first batch, which is negative where the batch came before it: the first samples are read by
requests of their own. Loading processes that start meanwhile take seconds of it; the time to the first batch from the
disk is what they take alone. FOLDER has tars or JPEG files, of which shards are filled in turn; without one, images as
large as photos are drawn. A store of made-up probabilities is written first. --tiny is a rehearsal of seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.arguments import cores
from benchmarks.loopback import LOOPBACK, file_server, s3_environment
from benchmarks.machine import describe
from benchmarks.made_shards import write_shards
from benchmarks.photos import drawn, load
from benchmarks.stores import made_up_store, stored_batches
from benchmarks.timing import in_turns
from tinyvit_kd.batches.dump_batches import DumpBatches
from tinyvit_kd.batches.dump_tasks import Groups, claim_groups, tasks_of
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.shards_ahead import groups_with_shards
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.loader import loading, steps_in_work
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runs.cached_shards import steps_with_shards
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.store.store import LogitStore

BATCH, BUCKET = 64, "shards"
CPU = torch.device("cpu")


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, time, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="a folder of tars or JPEG files; otherwise images are drawn")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--samples", type=int, default=1024, help="of a shard")
    parser.add_argument("--results", type=Path, help="a JSON file of the result")
    parser.add_argument("--tiny", action="store_true", help="settings with which it takes seconds, to rehearse it")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.size, options.rounds, options.samples, options.workers, options.lanes = 32, 1, 64, 1, 2
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, file_server(Path(name)) as port:
        os.environ.update(s3_environment(f"http://{LOOPBACK}:{port}"))
        bench = prepare(options, Path(name))
        rates = in_turns(bench.columns(), options.rounds)
    result = summary(options, bench, rates)
    print_table(result)
    if options.results is not None:
        write_json(options.results, result)
    print(json.dumps(result))


@dataclass
class Bench:
    """Shards on the disk, which are a bucket, too, and what was timed beside rates.

    Attributes:
        firsts: seconds from the arrival of the first shard to the first batch, by stage.
        begins: seconds from the beginning to the first batch, by stage and place.
        caches: a new one for each pass from an empty one; the last is the full one.
    """

    options: argparse.Namespace
    folder: Path
    disk: ShardSet
    store: LogitStore
    shard_mib: float
    firsts: dict[str, list[float]] = field(default_factory=dict)
    begins: dict[str, list[float]] = field(default_factory=dict)
    caches: list[Path] = field(default_factory=list)

    def columns(self) -> dict[str, Callable[[], float]]:
        """What is timed: views a second of each stage, from each place."""
        return {
            f"{stage}, {place}": partial(self._rate, stage, place)
            for stage in ("pretrain", "dump")
            for place in ("disk", "cold", "warm")
        }

    def _rate(self, stage: str, place: str) -> float:
        if place == "cold":
            self.caches.append(self.folder / f"cache-{len(self.caches)}")
        cache = self.caches[-1] if self.caches else self.folder
        shards = self.disk if place == "disk" else ShardSet.load(f"s3://{BUCKET}", cache_dir=cache, on_shard=_quiet)
        begin = time.time()
        times = list(self._pretrain(shards) if stage == "pretrain" else self._dump(shards))
        self.begins.setdefault(f"{stage}, {place}", []).append(times[0] - begin)
        if place == "cold":
            arrived = min(path.stat().st_ctime for path in cache.glob("*.tar"))
            self.firsts.setdefault(stage, []).append(times[0] - arrived)
        return BATCH * (len(times) - 1) / (times[-1] - times[0])

    @property
    def _runtime(self) -> RuntimeConfig:
        return RuntimeConfig(workers=self.options.workers)

    def _pretrain(self, shards: ShardSet) -> Iterator[float]:
        """The times at which an epoch's batches come."""
        runtime = self._runtime
        maker = stored_batches(shards, self.store, BATCH, self.options.lanes, steps=steps_in_work(runtime))
        steps = range(maker.plan.steps_per_epoch)
        with (
            steps_with_shards(shards, maker.plan, steps, runtime, solo_job()) as tasks,
            loading(maker, tasks, runtime, CPU) as batches,
        ):
            yield from (time.time() for _ in batches)

    def _dump(self, shards: ShardSet) -> Iterator[float]:
        """The times at which the batches of one view of all samples come."""
        runtime, lengths = self._runtime, shards.lengths.tolist()
        maker = DumpBatches(SampleViews(shards.reader(), ViewSpec(size=self.options.size), 0), "hole", BATCH)
        groups = Groups(np.ones((len(lengths), 1), dtype=bool), lengths, 1)
        with (
            groups_with_shards(shards, claim_groups(groups, itertools.count()), runtime, BATCH) as claimed,
            loading(maker, tasks_of(claimed, BATCH), runtime, CPU) as batches,
        ):
            yield from (time.time() for _ in batches)


def prepare(options: argparse.Namespace, folder: Path) -> Bench:
    """Shards with their indexes on the disk and in the bucket, and a store."""
    images = load(options.photos) if options.photos is not None else drawn(4 if options.tiny else 32)
    shards = write_shards(folder / BUCKET, images, options.shards, options.samples)
    disk = ShardSet.load(shards, on_shard=_quiet)
    described = {"filenames": [Path(each).name for each in disk.locations], "shard_lengths": disk.lengths.tolist()}
    write_json(folder / BUCKET / "_info.json", {"splits": {"train": described}})
    store = made_up_store(folder / "store", disk, ViewSpec(size=options.size), topk=100, classes=21841, views=1)
    return Bench(options, folder, disk, store, round(Path(disk.locations[0]).stat().st_size / 2**20, 1))


def _quiet(*_: object) -> None:
    pass


def summary(options: argparse.Namespace, bench: Bench, rates: dict[str, list[float]]) -> dict[str, Any]:
    """Medians and ratios."""
    medians = {name: statistics.median(each) for name, each in rates.items()}
    over = {
        f"{stage}_{place}_over_disk": round(_over(rates[f"{stage}, {place}"], rates[f"{stage}, disk"]), 4)
        for stage in ("pretrain", "dump")
        for place in ("cold", "warm")
    }
    return {
        "machine": describe(),
        "cores": cores(),
        "workers": options.workers,
        "lanes": options.lanes,
        "photos": "drawn" if options.photos is None else "given",
        "shards": options.shards,
        "samples": options.samples,
        "shard_mib": bench.shard_mib,
        **over,
        "first_batch_after_first_shard_s": {
            stage: round(statistics.median(each[1:]), 3) for stage, each in bench.firsts.items()
        },
        "first_batch_after_start_s": {
            name: round(statistics.median(each[1:]), 3) for name, each in bench.begins.items()
        },
        "views_per_second": {name: round(rate, 1) for name, rate in medians.items()},
    }


def _over(rates: list[float], others: list[float]) -> float:
    """The median of ratios, round by round."""
    return statistics.median(one / other for one, other in zip(rates, others, strict=True))


def print_table(result: dict[str, Any]) -> None:
    """Views a second, and ratios."""
    rates = result["views_per_second"]
    print(
        "| batches of | disk, views/s | empty cache, views/s | full cache, views/s | full cache over disk "
        "| first batch after the first shard, s |\n|---|---|---|---|---|---|"
    )
    for stage in ("pretrain", "dump"):
        print(
            f"| {stage} | {rates[f'{stage}, disk']:,.0f} | {rates[f'{stage}, cold']:,.0f} "
            f"| {rates[f'{stage}, warm']:,.0f} | {result[f'{stage}_warm_over_disk']:.3f} "
            f"| {result['first_batch_after_first_shard_s'][stage]:.2f} |"
        )


if __name__ == "__main__":
    main()
