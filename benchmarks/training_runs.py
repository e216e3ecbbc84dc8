"""Recipes of small trainings on CIFAR-10, which the benchmarks of accuracy share.

The networks are TinyViT's and DeiT's shapes at 32 pixels, small enough that two cores train one in about a minute.
"""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import DumpConfig, FinetuneConfig, PretrainConfig
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain

Recipe = dict[str, Any]
Summary = dict[str, float]  # what a stage says of a training at its end

SIZE, CLASSES = 32, 10
VIEWS = {"size": SIZE, "scale": [0.35, 1.0], "auto_augment": None, "erase_prob": 0.25}
MILD = {"size": SIZE, "scale": [0.6, 1.0], "auto_augment": None, "erase_prob": 0.0}
TEACHER = {"embed_dims": [32, 64, 128, 160], "depths": [1, 1, 2, 1], "window_sizes": [4, 4, 4, 2]}
STUDENT = {
    "embed_dims": [16, 32, 64, 96],
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 3],
    "window_sizes": [4, 4, 4, 2],
}
OPTIM = {"base_lr": 4e-3, "warmup_lr": 1e-5, "min_lr": 1e-5, "lr_batch": 512, "weight_decay": 0.05}


def unpack(data: Path, out: Path) -> Path:
    """A copy of a shard set with its tars gunzipped."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(data.iterdir()):
        target = out / path.name.removesuffix(".gz")
        if target.exists():
            continue
        aside = target.with_name(f".{target.name}.partial")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as source, aside.open("wb") as file:
            shutil.copyfileobj(source, file)
        aside.replace(target)
    names = out / "class_names.txt"
    if names.exists():
        names.rename(out / "classes.txt")
    return out


def first_shards(folder: Path, count: int) -> Path:
    """A shard set of which only the first of the training split are used from now on."""
    path = folder / "_info.json"
    info = json.loads(path.read_text())
    split = info["splits"]["train"]
    split |= {name: split[name][:count] for name in ("filenames", "shard_lengths")}
    write_json(
        path, info | {"splits": info["splits"] | {"train": split | {"num_samples": sum(split["shard_lengths"])}}}
    )
    return folder


def training(shards: Path, output: Path, epochs: int, seed: int, optim: dict[str, float] | None = None) -> Recipe:
    """What all trainings share: the whole training split, scored once at the end on the whole validation split."""
    return {
        "output": output,
        "shards": {"path": str(shards), "split": "train"},
        "optim": OPTIM if optim is None else optim,
        "schedule": {
            "epochs": epochs,
            "warmup_epochs": 0.25,
            "global_batch_size": 256,
            "lanes": 8,
            "window": 2048,
            "seed": seed,
        },
        "train": {"log_every": 200, "checkpoint_every": 1000, "evaluate_every": 1000},
        "eval": {
            "shards": {"path": str(shards), "split": "val"},
            "views": {"size": SIZE, "mode": "squash"},
            "batch_size": 250,
        },
        "runtime": {"workers": 1},
    }


def dump(shards: dict[str, Any], teacher: Path, store: dict[str, Any]) -> Recipe:
    """Stage one on the views that students train on."""
    return {
        "shards": shards,
        "views": VIEWS,
        "teacher": {"checkpoint": teacher},
        "store": store,
        "batch_size": 256,
        "views_per_decode": min(4, store["views"]),
        "runtime": {"workers": 1},
    }


def train_teacher(shards: Path, output: Path, epochs: int, job: Job) -> Summary:
    """The one teacher of a benchmark: four times as large as its students, and trained on all that there is."""
    recipe = training(shards, output, epochs, 0) | {
        "views": MILD,
        "loss": {"label_smoothing": 0.0},  # smoothed teachers tell classes apart less finely (arXiv 1906.02629)
        "student": {"tiny_vit": TEACHER, "drop_path_rate": 0.0},
    }
    return run_finetune(recipe, job)


def run_dump(recipe: Recipe, job: Job) -> Summary:
    """Stage one."""
    return dump_logits(validate(DumpConfig, recipe | {"stage": "dump-logits"}, "benchmark"), job)


def pretrain_config(recipe: Recipe) -> PretrainConfig:
    """Stage two's recipe, checked."""
    return validate(PretrainConfig, recipe | {"stage": "pretrain"}, "benchmark")


def run_pretrain(recipe: Recipe, job: Job) -> Summary:
    """Stage two."""
    return pretrain(pretrain_config(recipe), job)


def run_finetune(recipe: Recipe, job: Job) -> Summary:
    """Stage three, from scratch unless ``student`` says otherwise."""
    return finetune(validate(FinetuneConfig, recipe | {"stage": "finetune"}, "benchmark"), job)
