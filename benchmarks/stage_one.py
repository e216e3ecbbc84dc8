"""Stage one as a benchmark runs it, again and again: ``dump_logits`` itself, and its parts alone."""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.feeding import StillBatches
from benchmarks.made_shards import grey_image, write_shards
from benchmarks.networks import write_teacher
from benchmarks.photos import load
from benchmarks.timing import in_turns, seconds
from tinyvit_kd.batches.dump_batches import DumpBatch, DumpBatches
from tinyvit_kd.batches.dump_tasks import DumpTask, Groups, tasks_of
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.teacher import Teacher, build_teacher, topk_probs
from tinyvit_kd.runs.block_writer import Assembler
from tinyvit_kd.runtime.compiling import compiler_of
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.stages import dump_logits as stage
from tinyvit_kd.store.store import LogitStore

A_DECODE = 4  # views that are rendered from one decoded image; a sample has no others
FORWARD, TOPK, DUMP, WHOLE = "bare forward", "bare forward, top-k", "dump-logits, steady", "dump-logits, whole run"
LOADING, WRITING = "one loading process alone", "encode and write alone"
SOME = 4  # batches that a loading process is timed for
CPU = torch.device("cpu")
Rates = dict[str, list[float]]  # views a second, in each round


def write_inputs(options: argparse.Namespace, folder: Path) -> str:
    """Write shards and a teacher's model file to ``folder``; returns a pattern that names the shards."""
    images = load(options.photos) if options.views == "real" else [grey_image()]
    samples = options.batch * options.batches // A_DECODE
    write_teacher(folder / "teacher", options.teacher, options.classes, options.size)
    return write_shards(folder / "shards", images, options.groups, samples)


class Subject:
    """A stage one that runs again and again, and its parts alone.

    Args:
        precision: the teacher's.
        compiled: whether the teacher is.
        shards: what ``write_inputs`` returned.
        folder: what it wrote to; the store goes there, too.
    """

    def __init__(
        self, options: argparse.Namespace, precision: str, compiled: bool, job: Job, shards: str, folder: Path
    ) -> None:
        self.options, self.job, self.shards, self.folder = options, job, shards, folder
        self.precision, self.compiled = precision, compiled
        self.kind: type[DumpBatches] = DumpBatches if options.views == "real" else StillBatches
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
            "runtime": {
                "workers": options.workers,
                "device": options.device,
                "threads": options.threads,
                "precision": self.precision,
                "compile": self.compiled,
            },
        }
        return validate(DumpConfig, tree, "benchmark")

    @cached_property
    def teacher(self) -> Teacher:
        """As stage one builds it."""
        runtime = self.config.runtime
        compiler = compiler_of(runtime, self.job)
        return build_teacher(self.config.teacher, self.job.device, runtime.precision, compiler=compiler)

    @cached_property
    def make(self) -> DumpBatches:
        """What stage one's loading processes do."""
        samples = SampleViews(ShardSet.load(self.shards).reader(), self.config.views, self.config.store.seed)
        return self.kind(samples, "error", self.config.batch_size)

    @cached_property
    def group(self) -> list[DumpTask]:
        """The batches of the first group."""
        lengths = self.make.samples.reader.shards.lengths.tolist()
        groups = Groups(np.ones((1, A_DECODE), dtype=np.bool_), lengths, A_DECODE)
        return list(tasks_of(iter(groups), self.config.batch_size))

    @property
    def group_views(self) -> int:
        """Views of one group, and so between two commits."""
        return len(self.group) * self.config.batch_size

    def passes(self, forward: Callable[[], object]) -> Callable[[], float]:
        """The rate of a group's forward passes."""

        def work() -> None:
            with self.teacher.compiler.without_gradients():
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
