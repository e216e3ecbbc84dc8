"""Does stage one keep its teacher busy? ``dump-logits`` over the teacher's forward pass alone.

Command:  python -m benchmarks.dump [--views real --photos FOLDER] [--device cuda] [--teacher NAME] [--batch 128]
Result:   a table of views a second, and a last line of JSON.

``dump_logits`` itself runs, into a temporary folder, over shards that repeat the photos or, with synthetic views, with
batches that are filled without any image work. A shard is one group of blocks and a whole number of batches. A run's
steady rate is that between the commits of its first and its last group: what a long run has, without a start and an
end. Bare forward passes run over one resident batch, with as many threads and while nothing else does, in the same
rounds; ratios are medians of the rounds' ratios. What is not the teacher's is measured alone: how fast one loading
process makes views, and how fast the writer takes answers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.arguments import cores, parse, parser
from benchmarks.feeding import StillBatches, grey_image, write_shards
from benchmarks.machine import describe
from benchmarks.networks import write_teacher
from benchmarks.photos import load
from benchmarks.timing import in_turns, seconds
from tinyvit_kd.batches.dump_batches import DumpBatch, DumpBatches
from tinyvit_kd.batches.dump_tasks import DumpTask, groups_of, tasks_of
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.teacher import Teacher, build_teacher, topk_probs
from tinyvit_kd.runs.block_writer import Assembler
from tinyvit_kd.runtime.distributed import Job, start_job
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.stages import dump_logits as stage
from tinyvit_kd.store.store import LogitStore

A_DECODE = 4  # views that are rendered from one decoded image; a sample has no others
DEFAULTS = {
    "cpu": {"teacher": "vit_small_patch16_224", "batch": 16, "batches": 8, "groups": 3, "workers": 1},
    "cuda": {
        "teacher": "vit_large_patch14_clip_224",
        "batch": 128,
        "batches": 32,
        "groups": 16,
        "workers": max(1, cores() - 2),
    },
}
FORWARD, TOPK, DUMP, WHOLE = "bare forward", "bare forward, top-k", "dump-logits, steady", "dump-logits, whole run"
LOADING, WRITING = "one loading process alone", "encode and write alone"
SOME = 4  # batches that a loading process is timed for
CPU = torch.device("cpu")
Rates = dict[str, list[float]]  # views a second, in each round


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, time, print."""
    given = _parser()
    options = parse(given, arguments, DEFAULTS)
    if options.groups < 2 or options.batch % A_DECODE:
        given.error(f"--groups must be at least 2, and --batch a multiple of {A_DECODE}")
    with start_job(options.device, options.threads) as job, tempfile.TemporaryDirectory() as folder:
        rates = Subject(options, job, Path(folder)).measure(options.rounds)
    result = result_of(options, job, rates)
    print_table(rates)
    loading = f"{options.views} views of {counted(options.workers, 'loading process')}"
    print(f"\n{options.teacher}, batch {options.batch}, {loading}: the limit is {result['limit']}")
    print(json.dumps(result))


def _parser() -> argparse.ArgumentParser:
    made = parser(__doc__)
    made.add_argument("--teacher", help="timm's name; its weights are random")
    made.add_argument("--batch", type=int)
    made.add_argument("--batches", type=int, help="of a group, which is a shard in all of its views")
    made.add_argument("--groups", type=int, help="of a run, at least 2; the first is not timed")
    made.add_argument("--workers", type=int, help="loading processes")
    return made


class Subject:
    """A stage one that runs again and again, and its parts alone.

    Args:
        folder: where shards, teacher and stores go.
    """

    def __init__(self, options: argparse.Namespace, job: Job, folder: Path) -> None:
        self.options, self.job, self.folder = options, job, folder
        self.kind: type[DumpBatches] = DumpBatches if options.views == "real" else StillBatches
        images = load(options.photos) if options.views == "real" else [grey_image()]
        samples = options.batch * options.batches // A_DECODE
        self.shards = write_shards(folder / "shards", images, options.groups, samples)
        write_teacher(folder / "teacher", options.teacher, options.classes, options.size)
        self.whole_runs: list[float] = []

    def measure(self, rounds: int) -> Rates:
        """Views a second of each column."""
        views = self.make(self.group[0]).views.to(self.job.device)
        columns = {
            FORWARD: self.passes(lambda: self.teacher(views)),
            TOPK: self.passes(lambda: topk_probs(self.teacher(views), self.options.topk)),
            DUMP: self.dump,
        }
        rates = in_turns(columns, rounds) | {WHOLE: self.whole_runs[1:]}
        return rates | in_turns({LOADING: self.load, WRITING: self.write}, rounds)

    @cached_property
    def config(self) -> DumpConfig:
        """The recipe."""
        options = self.options
        tree = {
            "stage": "dump-logits",
            "shards": {"path": self.shards},
            "views": {"size": options.size},
            "teacher": {"checkpoint": self.folder / "teacher"},
            "store": {"path": self.folder / "store", "topk": options.topk, "views": A_DECODE},
            "batch_size": options.batch,
            "views_per_decode": A_DECODE,
            "runtime": {"workers": options.workers, "device": options.device, "threads": options.threads},
        }
        return validate(DumpConfig, tree, "benchmark")

    @cached_property
    def teacher(self) -> Teacher:
        """As stage one builds it."""
        return build_teacher(self.config.teacher, self.job.device, self.config.runtime.precision)

    @cached_property
    def make(self) -> DumpBatches:
        """What stage one's loading processes do."""
        samples = SampleViews(ShardSet.load(self.shards).reader(), self.config.views, self.config.store.seed)
        return self.kind(samples, "error", self.config.batch_size)

    @cached_property
    def group(self) -> list[DumpTask]:
        """The batches of the first group."""
        lengths = self.make.samples.reader.shards.lengths.tolist()
        groups = groups_of([(0, view) for view in range(A_DECODE)], lengths, A_DECODE)
        return list(tasks_of(iter(groups), self.config.batch_size))

    @property
    def group_views(self) -> int:
        """Views of one group, and so between two commits."""
        return len(self.group) * self.config.batch_size

    def passes(self, forward: Callable[[], object]) -> Callable[[], float]:
        """The rate of a group's forward passes."""

        def work() -> None:
            with torch.inference_mode():
                for _ in self.group:
                    forward()

        return lambda: self.group_views / seconds(work, self.job.device)

    def dump(self) -> float:
        """The steady rate of a dump; that of the whole run is kept aside."""
        store = self.config.store.path
        shutil.rmtree(store, ignore_errors=True)
        with patch.object(stage, "DumpBatches", self.kind):
            self.whole_runs.append(stage.dump_logits(self.config, self.job)["views_per_second"])
        return self.group_views / seconds_between_commits(Path(store))

    def load(self) -> float:
        """The rate at which one process fills its buffers."""
        tasks = self.group[:SOME]
        arrays = self.make.layout.arrays(np.zeros(self.make.layout.nbytes, np.uint8))
        return (
            len(tasks) * self.config.batch_size / seconds(lambda: [self.make.fill(task, arrays) for task in tasks], CPU)
        )

    def write(self) -> float:
        """The rate of the writing thread, where answers are there already."""
        return self.group_views / seconds(self._write_group, CPU)

    def _write_group(self) -> None:
        store, assembler = (
            LogitStore.open(self.config.store.path, writable=True),
            Assembler(self.config.store.topk),
        )
        for batch in self.told:
            for shard, view, block in assembler.add(batch, *self.answers):
                store.write_block(shard, view, block)

    @cached_property
    def told(self) -> list[DumpBatch]:
        """The batches of the first group without their views."""
        arrays = self.make.layout.arrays(np.zeros(self.make.layout.nbytes, np.uint8))
        return [DumpBatch(torch.empty(0), *self.make.fill(task, arrays)) for task in self.group]

    @cached_property
    def answers(self) -> list[npt.NDArray[Any]]:
        """A teacher's for one batch: logits with a spread, of which the best are far above the others."""
        shape = self.config.batch_size, self.options.classes
        logits = 3 * torch.randn(shape, generator=torch.Generator().manual_seed(0))
        return [tensor.numpy() for tensor in topk_probs(logits, self.config.store.topk)]


def seconds_between_commits(store: Path) -> float:
    """Mean seconds from one group's last block to the next one's: first to last over their number."""
    commits = [max(path.stat().st_mtime for path in folder.glob("c.*")) for folder in store.glob("s??????")]
    return (max(commits) - min(commits)) / (len(commits) - 1)


def ratio(rates: Rates, name: str, over: str) -> float:
    """The median of the rounds' ratios."""
    return round(statistics.median(each / bare for each, bare in zip(rates[name], rates[over], strict=True)), 3)


def print_table(rates: Rates) -> None:
    """Medians, and ratios to the forward pass with top-k."""
    print("| | views/s | over the bare forward pass with top-k |\n|---|---|---|")
    for name, found in rates.items():
        print(f"| {name:24} | {statistics.median(found):7.1f} | {ratio(rates, name, TOPK):.3f} |")


def result_of(options: argparse.Namespace, job: Job, rates: Rates) -> dict[str, object]:
    """What the last line says."""
    told = ("teacher", "classes", "topk", "size", "views", "batch", "batches", "groups", "workers", "threads", "rounds")
    loading = options.workers * statistics.median(rates[LOADING])
    return {
        "machine": describe(),
        "device": job.device.type,
        "pinned_to_cores": cores(),
        **{name: getattr(options, name) for name in told},
        "limit": "the teacher" if statistics.median(rates[TOPK]) < loading else "the views",
        "over_bare_forward": ratio(rates, DUMP, TOPK),
        "over_bare_forward_without_topk": ratio(rates, DUMP, FORWARD),
        "whole_run_over_bare_forward": ratio(rates, WHOLE, TOPK),
        "views_per_second": {name: [round(rate, 1) for rate in found] for name, found in rates.items()},
    }


if __name__ == "__main__":
    main()
