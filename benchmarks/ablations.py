"""One thing at a time changed of a distillation: the set of runs, as data, and what runs them.

All students of a seed have the same first weights (of their network), samples, order and, unless views are what is
changed, the same views; labels alone included. So differences are taken seed by seed.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from benchmarks.run_differences import differences
from benchmarks.teacher_in_loop import pretrain_online
from benchmarks.training_runs import (
    CLASSES,
    OPTIM,
    STUDENT,
    VIEWS,
    Recipe,
    Summary,
    dump,
    pretrain_config,
    run_dump,
    run_finetune,
    run_pretrain,
    train_teacher,
    training,
)
from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import write_json

TINY_VIT, DEIT = "TinyViT", "DeiT"
STUDENTS: dict[str, Recipe] = {
    TINY_VIT: {"tiny_vit": STUDENT, "drop_path_rate": 0.0},
    DEIT: {
        "name": "deit_tiny_distilled_patch16_224",
        "drop_path_rate": 0.0,
        "kwargs": {"patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 2},
    },
}
MIXING = {"mixup": 0.8, "cutmix": 1.0}
RATES = OPTIM | {"base_lr": 8e-3}  # the best of 2e-3, 4e-3 and 8e-3 for labels alone in four epochs
MOST_VIEWS_A_SAMPLE = 4
RESULT = "ablations.json"


@dataclass(frozen=True)
class Ablation:
    """One row: what a student is trained on."""

    what: str  # is changed
    value: str  # of it
    student: str = TINY_VIT
    targets: str = "soft"  # soft, hard, token, labels
    alpha: float | None = None  # the teacher's share; None: the loss's own
    topk: int = CLASSES
    views: int | None = None  # V, those that are used of the stored ones; None: a fresh one an epoch
    mixes: bool = False
    online: bool = False
    views_per_sample: int = 1  # in one batch, from one decode

    @property
    def name(self) -> str:
        """A folder's name."""
        return "-".join(re.findall(r"[a-z0-9]+", f"{self.student} {self.what} {self.value}".lower()))


BASE = Ablation("base", "soft, all classes, a fresh view an epoch")
DEIT_BASE = Ablation("base", "soft, mean of both heads", DEIT)
ABLATIONS = (
    BASE,
    Ablation("targets", "labels alone", targets="labels"),
    Ablation("targets", "half soft, half labels", alpha=0.5),
    Ablation("targets", "hard", targets="hard"),
    Ablation("targets", "half hard, half labels", targets="hard", alpha=0.5),
    Ablation("K", "1", topk=1),
    Ablation("K", "3", topk=3),
    Ablation("V", "1", views=1),
    Ablation("V", "4", views=4),
    Ablation("mixing", "Mixup 0.8, CutMix 1.0", mixes=True),
    Ablation("teacher", "in the loop", online=True),
    Ablation("views of one decode", "2", views_per_sample=2),
    Ablation("views of one decode", "4", views_per_sample=MOST_VIEWS_A_SAMPLE),
    DEIT_BASE,
    Ablation("targets", "labels alone", DEIT, targets="labels"),
    Ablation("targets", "hard", DEIT, targets="hard"),
    Ablation("targets", "half hard, half labels", DEIT, targets="hard", alpha=0.5),
    Ablation("targets", "token: a head for hard, a head for labels", DEIT, targets="token"),
)


def run_ablations(options: argparse.Namespace, shards: Path, job: Job) -> dict[str, Any]:
    """Train what is not trained yet, seed by seed; the result so far is written after every training."""
    begin, bench = time.perf_counter(), Bench.of(options, shards, job)
    teacher = train_teacher(shards, bench.teacher, options.teacher_epochs, job)
    result: dict[str, Any] = {
        "machine": describe(),
        "settings": bench.settings | {"teacher_epochs": options.teacher_epochs, "seeds": options.seeds},
        "teacher": teacher,
        "rows": [asdict(row) | {"name": row.name, "seeds": {}} for row in ABLATIONS],
        "online_and_stored": {},
    }
    for number in range(len(ABLATIONS) * options.seeds):
        seed, place = divmod(number, len(ABLATIONS))
        row = ABLATIONS[place]
        result["rows"][place]["seeds"][str(seed)] = summary = bench.train(row, seed)
        if row.online:
            result["online_and_stored"][str(seed)] = differences(bench.folder(row, seed), bench.folder(BASE, seed))
        write_json(options.out / RESULT, result)
        told = {"run": row.name, "seed": seed, **{name: summary[name] for name in ("top1", "images_per_second")}}
        told |= {"done": number + 1, "of": len(ABLATIONS) * options.seeds}
        print(json.dumps(told | {"minutes": round((time.perf_counter() - begin) / 60, 1)}), flush=True)
    return result


@dataclass(frozen=True)
class Bench:
    """What all rows share."""

    shards: Path
    out: Path
    shard_count: int
    epochs: int
    job: Job

    @classmethod
    def of(cls, options: argparse.Namespace, shards: Path, job: Job) -> Bench:
        """Of a command line."""
        return cls(shards, options.out, options.shards, options.epochs, job)

    @property
    def teacher(self) -> Path:
        """The teacher's folder; the other comparison has the same one."""
        return self.out / "teacher"

    def folder(self, row: Ablation, seed: int) -> Path:
        """A training's folder."""
        return self.out / "ablations" / f"seed{seed}" / row.name

    @property
    def settings(self) -> dict[str, Any]:
        """What the result says of them."""
        return {
            "shards": self.shard_count,
            "epochs": self.epochs,
            "views": VIEWS,
            "mixing": MIXING,
            "optim": RATES,
            "students": STUDENTS,
        }

    @property
    def seen(self) -> dict[str, Any]:
        """The shards that students see: the first ones of the training split, of which the teacher saw all."""
        return {"path": str(self.shards / f"train-{{{0:06}..{self.shard_count - 1:06}}}.tar")}

    def train(self, row: Ablation, seed: int) -> Summary:
        """Train one student, after the dump that it needs."""
        if row.targets == "labels":
            return run_finetune(self.recipe(row, seed) | {"views": self.views(row)}, self.job)
        run_dump(dump(self.seen, self.teacher, self.store(row, seed)) | {"views": self.views(row)}, self.job)
        distilled = self.distilled(row, seed)
        if row.online:
            return pretrain_online(pretrain_config(distilled), TeacherConfig(checkpoint=self.teacher), self.job)
        return run_pretrain(distilled, self.job)

    def distilled(self, row: Ablation, seed: int) -> Recipe:
        """Stage two's recipe."""
        return self.recipe(row, seed) | {
            "store": {"path": self.store(row, seed)["path"], "views": row.views},
            "loss": {"kind": row.targets, "alpha": row.alpha},
        }

    def recipe(self, row: Ablation, seed: int) -> Recipe:
        """What stages two and three are both told."""
        made = training(self.shards, self.folder(row, seed), self.epochs // row.views_per_sample, seed, RATES)
        made["schedule"] |= {"views_per_sample": row.views_per_sample, "warmup_epochs": 0.5 / row.views_per_sample}
        made["train"] |= {"log_every": 50}
        return made | {"shards": self.seen, "student": STUDENTS[row.student]}

    def store(self, row: Ablation, seed: int) -> dict[str, Any]:
        """The store that a row needs; rows that differ in nothing else share one."""
        path = self.out / "ablations" / f"seed{seed}" / "stores" / f"top{row.topk}{'-mixed' if row.mixes else ''}"
        return {"path": path, "topk": row.topk, "views": self.epochs, "seed": seed}

    @staticmethod
    def views(row: Ablation) -> dict[str, Any]:
        """The view spec."""
        return VIEWS | (MIXING if row.mixes else {})
