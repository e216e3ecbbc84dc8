"""What a fault campaign works on: the tiny world's stages, each as a command with an output of its own."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tiny_world import (
    NETWORK,
    TRAINING,
    Tree,
    dump_recipe,
    finetune_recipe,
    make_teacher,
    pretrain_recipe,
)
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import DumpConfig, FinetuneConfig, PretrainConfig
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.synthetic import write_image_folder
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoints

VIEWS_PER_DECODE = 4
CHECKPOINT_EVERY = 3
RUNTIME: Tree = {"device": "cpu", "threads": 1, "workers": 0, "prefetch": 2}


class Target(NamedTuple):
    """A stage and the number of processes that do it."""

    stage: str
    processes: int = 1

    def __str__(self) -> str:
        return self.stage if self.processes == 1 else f"{self.stage}, {self.processes} processes"


SHARDS, DUMP, PRETRAIN, FINETUNE = (Target(name) for name in ("shards build", "dump-logits", "pretrain", "finetune"))
DUMP_2, PRETRAIN_2 = Target("dump-logits", 2), Target("pretrain", 2)
TARGETS = (SHARDS, DUMP, PRETRAIN, FINETUNE, DUMP_2, PRETRAIN_2)


@dataclass(frozen=True)
class Size:
    """How much there is to do; shards are of one length."""

    samples: int = 960
    per_shard: int = 80
    views: int = 8
    epochs: int = 2

    @property
    def shards(self) -> int:
        """Shards in the set."""
        return self.samples // self.per_shard

    @property
    def steps(self) -> int:
        """Optimiser steps of a training stage."""
        return self.epochs * (self.samples // int(TRAINING["schedule"]["global_batch_size"]))


class Case:
    """A target with an output folder of its own.

    Args:
        world: what it works on.
        target: the stage.
        output: shard set, store or run folder that it makes.
    """

    def __init__(self, world: FaultWorld, target: Target, output: Path) -> None:
        self.world, self.target, self.output = world, target, output
        self.trace = output.with_name(f"{output.name}.trace")
        self._recipe = output.with_name(f"{output.name}.yaml")

    def command(self, workers: int = 0, traced: bool = False) -> list[str]:
        """The command line.

        Args:
            workers: loading processes of each process; of ``shards build``, processes beyond the first.
            traced: a dump notes in ``self.trace`` which blocks it begins.
        """
        module = ["benchmarks.fault_injection.trace", str(self.trace)] if traced else ["tinyvit_kd"]
        count = self.target.processes
        run = [] if count == 1 else ["torch.distributed.run", "--standalone", "--nproc_per_node", str(count), "-m"]
        start = [sys.executable, "-m", *run, *module]
        if self.target == SHARDS:
            size = self.world.size
            source = str(self.world.images)
            options = {"--samples-per-shard": size.per_shard, "--seed": self.world.seed, "--processes": 1 + workers}
            flat = [str(part) for option in options.items() for part in option]
            return [*start, "shards", "build", source, str(self.output), *flat]
        self._recipe.parent.mkdir(parents=True, exist_ok=True)
        self._recipe.write_text(json.dumps(self.world.recipe(self.target.stage, self.output)))  # JSON is YAML
        return [*start, self.target.stage, str(self._recipe), "--set", f"runtime.workers={workers}"]

    def run_here(self) -> None:
        """Do it in this process, silently; for tests, to which starting another one is dear."""
        with redirect_stderr(io.StringIO()):
            self.world.run_here(self.target.stage, self.output)

    def progress(self) -> float:
        """The share of the work that a run started now would find done: 0 … 1."""
        size = self.world.size
        if self.target == SHARDS:
            return len(list(self.output.glob("*.tar"))) / size.shards
        if self.target.stage == DUMP.stage:
            return len(list(self.output.glob("s*/c.*.0.0"))) / (size.shards * size.views)
        newest = checkpoints(self.output / CHECKPOINTS)
        return int(newest[0].stem.rpartition("-")[2]) / size.steps if newest else 0.0


class FaultWorld:
    """Images, a teacher and, once they have been made, the results of stages that nothing disturbed.

    Args:
        folder: where all of it is.
        size: how much of it.
        seed: varies images, weights, views and order.
    """

    def __init__(self, folder: Path, size: Size, seed: int) -> None:
        self.folder, self.size, self.seed = folder, size, seed
        self.images = folder / "images"

    def draw(self) -> None:
        """Make what all stages begin with."""
        write_image_folder(self.images, self.size.samples, self.seed)
        make_teacher(self.folder, seed=self.seed + 1)

    def reference(self, target: Target) -> Case:
        """The target as it is without faults; a store does not depend on the number of processes."""
        return self.case(DUMP if target == DUMP_2 else target, self.folder / "reference")

    def case(self, target: Target, folder: Path) -> Case:
        """The target with its output in a folder; a shard set's name follows from its own folder's."""
        return Case(self, target, folder / f"{target.stage.replace(' ', '-')}-{target.processes}")

    def blocks_in_flight(self, target: Target) -> int:
        """Blocks that a kill can cost at the most: two groups meet in a batch, which is smaller than either."""
        return target.processes * 2 * VIEWS_PER_DECODE

    def recipe(self, stage: str, output: Path, **changes: Any) -> Tree:
        """The recipe of a stage that reads the references of those before it; ``changes`` replace whole sections."""
        shards = self.reference(SHARDS).output
        store = self.reference(DUMP).output
        if stage == DUMP.stage:
            tree = dump_recipe(shards, self.folder / "teacher", output, **self._dumping(output))
            tree["shards"] |= {"index_dir": str(output.with_name(f"{output.name}-index"))}
        elif stage == PRETRAIN.stage:
            student = {"tiny_vit": NETWORK, "drop_path_rate": 0.1}
            tree = pretrain_recipe(shards, store, output, student=student, **self._training())
        else:
            student = {"init_from": str(self.reference(PRETRAIN).output)}
            tree = finetune_recipe(shards, output, student=student, **self._training())
        return tree | {"runtime": RUNTIME} | changes

    def run_here(self, stage: str, output: Path, **changes: Any) -> None:
        """Run a stage in this process."""
        stages: dict[str, tuple[Any, Callable[..., object]]] = {
            DUMP.stage: (DumpConfig, dump_logits),
            PRETRAIN.stage: (PretrainConfig, pretrain),
            FINETUNE.stage: (FinetuneConfig, finetune),
        }
        if stage == SHARDS.stage:
            build_shards(
                self.images,
                output,
                "train",
                samples_per_shard=self.size.per_shard,
                seed=self.seed,
                processes=1,
            )
            return
        kind, function = stages[stage]
        function(validate(kind, self.recipe(stage, output, **changes), "benchmark"), solo_job())

    def _dumping(self, output: Path) -> Tree:
        return {
            "store": {"path": str(output), "topk": 5, "views": self.size.views, "seed": self.seed},
            "batch_size": 40,
            "views_per_decode": VIEWS_PER_DECODE,
        }

    def _training(self) -> Tree:
        return {
            "schedule": TRAINING["schedule"] | {"epochs": self.size.epochs, "seed": self.seed},
            "train": {"log_every": 10, "checkpoint_every": CHECKPOINT_EVERY, "ema_decay": 0.9},
        }
