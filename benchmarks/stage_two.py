"""Stage two as a benchmark runs it: ``pretrain`` itself on a made-up store, its loader alone, and bare steps."""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cases import Figures
from benchmarks.contenders import DROP_PATH
from benchmarks.feeding import resident_batch
from benchmarks.gpu_use import GpuUse
from benchmarks.loader import loader_rate
from benchmarks.local_files import store_folder
from benchmarks.made_shards import write_shards
from benchmarks.networks import bare_step, student_run, student_state
from benchmarks.stores import made_up_store, stored_batches
from benchmarks.timing import in_turns, seconds, several
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.loader import steps_in_work
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.stages.pretrain import pretrain

SHARDS = 4
PREFETCH = RuntimeConfig().prefetch
BARE_STEPS = 5  # of each timing
FIRST = 4  # steps that are not timed, besides what is loaded ahead


class Subject:
    """Shards and a store, and what is timed on them.

    Args:
        folder: where both go, and runs.
        images: JPEG files that the shards repeat.
    """

    def __init__(self, options: argparse.Namespace, job: Job, folder: Path, images: list[bytes]) -> None:
        self.options, self.job, self.folder = options, job, folder
        self.pattern = write_shards(folder / "shards", images, SHARDS, options.samples // SHARDS)
        self.shards = ShardSet.load(self.pattern)
        spec = ViewSpec(size=options.size)
        self.store = made_up_store(folder / "store", self.shards, spec, options.topk, options.classes, views=1)
        self.lanes = math.gcd(options.batch, 64)
        self.steps_per_epoch = options.samples // options.batch
        self.bare_seconds: dict[str, float] = {}  # of a step, by student
        self.loader_rates: dict[int, float] = {}  # by workers

    def loader_alone(self, workers: int) -> Figures:
        """The rate of the loader with its batches on the device, where nothing computes."""
        runtime = RuntimeConfig(workers=workers)
        size, steps = self.options.batch, steps_in_work(runtime)
        maker = stored_batches(self.shards, self.store, size, self.lanes, steps=steps)
        rate, _ = loader_rate(maker, size, self.options.seconds, runtime, self.job.device)
        self.loader_rates[workers] = rate
        return {"workers": workers, "views_per_second": round(rate, 1)}

    def bare(self, student: str) -> Figures:
        """The rate of forward, loss, backward and step on a resident batch."""
        options, device = self.options, self.job.device
        size = options.batch
        state = student_state(student, options.classes, options.size, size, device, DROP_PATH.get(student))
        run = student_run(state, size, self.job, self.folder, precision=options.precision, compiled=options.compile)
        steps = several(partial(bare_step, run, state, resident_batch(options, size, device)), BARE_STEPS)
        times = in_turns({"": partial(seconds, steps, device)}, options.rounds)[""]
        self.bare_seconds[student] = statistics.median(times) / BARE_STEPS
        return {"views_per_second": round(size / self.bare_seconds[student], 1)}

    def fed(self, student: str, workers: int) -> Figures:
        """What stage two makes of both together."""
        epochs, skipped = self.epochs(workers)
        output = self.folder / f"{student}-{workers}"
        with GpuUse(self.job.device) as use:
            done = pretrain(self.recipe(student, workers, epochs, output), self.job)
        lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
        figures = steady([line for line in lines if line["kind"] == "train"], skipped, self.options.batch)
        rate = figures["views_per_second"]
        bare, loader = self.bare_seconds.get(student), self.loader_rates.get(workers)
        possible = [] if bare is None or loader is None else [self.options.batch / bare, loader]
        driver = use.mean(*figures.pop("times"))
        return {
            "student": student,
            "workers": workers,
            **figures,
            "of_possible": round(rate / min(possible), 4) if possible else None,
            "gpu_busy": None if bare is None else round(bare * rate / self.options.batch, 4),
            "gpu_busy_by_driver": None if driver is None else round(driver, 4),
            "digests_checked": int(done["digests_checked"]),
        }

    def epochs(self, workers: int) -> tuple[int, int]:
        """How many a run has, and how many of them are not timed."""
        skipped = math.ceil((workers * PREFETCH + FIRST) / self.steps_per_epoch)
        return skipped + math.ceil(self.options.steps / self.steps_per_epoch), skipped

    def recipe(self, student: str, workers: int, epochs: int, output: Path) -> PretrainConfig:
        """Stage two as a user has it, with a line of progress for each epoch."""
        options = self.options
        tree = {
            "stage": "pretrain",
            "output": output,
            "shards": {"path": self.pattern},
            "store": {"path": store_folder(self.store), "verify_rate": 1.0},
            "student": {"name": student, "drop_path_rate": DROP_PATH.get(student)},
            "optim": {"base_lr": 2.5e-4, "weight_decay": 0.01},
            "schedule": {"epochs": epochs, "global_batch_size": options.batch, "lanes": self.lanes},
            "train": {"log_every": self.steps_per_epoch, "checkpoint_every": 1 << 20, "keep_checkpoints": 1},
            "runtime": {
                "workers": workers,
                "prefetch": PREFETCH,
                "device": options.device,
                "threads": options.threads,
                "precision": options.precision,
                "compile": options.compile,
            },
        }
        return validate(PretrainConfig, tree, "benchmark")


def steady(lines: Sequence[dict[str, Any]], skipped: int, size: int) -> Figures:
    """Rate and waiting of the lines of ``metrics.jsonl`` behind the first ``skipped``, at least one.

    Args:
        lines: of kind train, each of as many steps.
        size: of the batch.
    """
    timed = lines[skipped:]
    step = statistics.mean(line["step_seconds"] for line in timed)
    waited = statistics.mean(line["data_wait"] * line["step_seconds"] for line in timed)
    return {
        "views_per_second": round(size / step, 1),
        "data_wait": round(waited / step, 4),
        "times": (lines[skipped - 1]["time"], timed[-1]["time"]),
    }
