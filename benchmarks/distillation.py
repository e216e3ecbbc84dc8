"""Does it help? CIFAR-10: one teacher, and the same student from scratch, distilled, and distilled and finetuned.

Command:  python -m benchmarks.distillation --data FOLDER_OF_CIFAR10_SHARDS --out FOLDER [--seeds 3]
Result:   a table, ``results/distillation.json``-like content in OUT, and a last line of JSON.

The teacher is trained once. Each seed varies the views, the store, the order and the student's first weights. Scratch
has as many optimiser steps as stages two and three together. FOLDER holds webdataset tars (or .tar.gz, unpacked into
OUT) with timm's _info.json.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import describe
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.stages import DumpConfig, FinetuneConfig, PretrainConfig
from tinyvit_kd.runtime.distributed import Job, start_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.stages.finetune import finetune
from tinyvit_kd.stages.pretrain import pretrain

VIEWS = {"size": 32, "scale": [0.35, 1.0], "auto_augment": None, "erase_prob": 0.25}
MILD = {"size": 32, "scale": [0.6, 1.0], "auto_augment": None, "erase_prob": 0.0}
TEACHER = {"embed_dims": [32, 64, 128, 160], "depths": [1, 1, 2, 1], "window_sizes": [4, 4, 4, 2]}
STUDENT = {
    "embed_dims": [16, 32, 64, 96],
    "depths": [1, 1, 1, 1],
    "num_heads": [1, 1, 2, 3],
    "window_sizes": [4, 4, 4, 2],
}
OPTIM = {"base_lr": 4e-3, "warmup_lr": 1e-5, "min_lr": 1e-5, "lr_batch": 512, "weight_decay": 0.05}
TOPK, STORED_VIEWS = 10, 2
Rows = dict[str, list[float]]  # top-1 in percent, a seed each


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher-epochs", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=4, help="of stage two; stage three has one more")
    options = parser.parse_args()
    shards = unpack(options.data, options.out / "shards")
    begin = time.perf_counter()
    with start_job("auto", threads=max(1, (os.cpu_count() or 1) - 1)) as job:
        rows = compare(options, shards, job)
    result = {
        "machine": describe(),
        "seconds": round(time.perf_counter() - begin),
        "epochs": {"teacher": options.teacher_epochs, "stage two": options.epochs, "stage three": 1},
        "top1": rows,
    }
    (options.out / "distillation.json").write_text(json.dumps(result, indent=1) + "\n")
    print(table(rows))
    print(json.dumps(result))


def unpack(data: Path, out: Path) -> Path:
    """A copy of a shard set with its tars gunzipped."""
    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(data.iterdir()):
        target = out / path.name.removesuffix(".gz")
        if target.exists():
            continue
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as source, target.open("wb") as file:
            shutil.copyfileobj(source, file)
    names = out / "class_names.txt"
    if names.exists():
        names.rename(out / "classes.txt")
    return out


def compare(options: argparse.Namespace, shards: Path, job: Job) -> Rows:
    """Top-1 of the teacher and of each kind of student, a seed each."""
    out, rows = options.out, Rows()
    teacher = _training(shards, out / "teacher", options.teacher_epochs, 0, OPTIM) | {
        "views": MILD,
        "loss": {"label_smoothing": 0.0},  # smoothed teachers tell classes apart less finely (arXiv 1906.02629)
        "student": {"tiny_vit": TEACHER, "drop_path_rate": 0.0},
    }
    rows["teacher"] = [_finetune(teacher, job)]
    for seed in range(options.seeds):
        folder = out / f"seed{seed}"
        scratch = _training(shards, folder / "scratch", options.epochs + 1, seed, OPTIM) | {
            "views": VIEWS,
            "student": {"tiny_vit": STUDENT, "drop_path_rate": 0.0},
        }
        adapt = OPTIM | {"base_lr": 4e-4, "layer_decay": 0.8, "weight_decay": 1e-8}
        finetuned = _training(shards, folder / "finetuned", 1, seed, adapt) | {
            "views": MILD,
            "student": {"init_from": folder / "distilled"},
        }
        finetuned["train"] |= {"freeze_bn_stats": True}
        rows.setdefault("scratch", []).append(_finetune(scratch, job))
        rows.setdefault("distilled", []).append(distil(shards, out / "teacher", folder, options.epochs, seed, job))
        rows.setdefault("distilled + finetuned", []).append(_finetune(finetuned, job))
        print(json.dumps(rows), flush=True)
    return rows


def _finetune(recipe: dict[str, Any], job: Job) -> float:
    return finetune(validate(FinetuneConfig, recipe | {"stage": "finetune"}, "benchmark"), job)["top1"]


def distil(shards: Path, teacher: Path, folder: Path, epochs: int, seed: int, job: Job) -> float:
    """Top-1 after stages one and two."""
    dump = {
        "stage": "dump-logits",
        "shards": {"path": str(shards), "split": "train"},
        "views": VIEWS,
        "teacher": {"checkpoint": teacher},
        "store": {"path": folder / "store", "topk": TOPK, "views": STORED_VIEWS, "seed": seed},
        "batch_size": 256,
        "views_per_decode": STORED_VIEWS,
        "runtime": {"workers": 1},
    }
    dump_logits(validate(DumpConfig, dump, "benchmark"), job)
    recipe = _training(shards, folder / "distilled", epochs, seed, OPTIM) | {
        "stage": "pretrain",
        "store": {"path": folder / "store"},
        "student": {"tiny_vit": STUDENT, "drop_path_rate": 0.0},
    }
    return pretrain(validate(PretrainConfig, recipe, "benchmark"), job)["top1"]


def _training(shards: Path, output: Path, epochs: int, seed: int, optim: dict[str, float]) -> dict[str, Any]:
    return {
        "output": output,
        "shards": {"path": str(shards), "split": "train"},
        "optim": optim,
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
            "views": {"size": 32, "mode": "squash"},
            "batch_size": 250,
        },
        "runtime": {"workers": 1},
    }


def table(rows: Rows) -> str:
    """Mean, spread and every seed, as Markdown."""
    lines = ["| | top-1, mean | standard deviation | seeds |", "|---|---|---|---|"]
    for name, values in rows.items():
        spread = f"{statistics.stdev(values):.2f}" if len(values) > 1 else "–"
        each = ", ".join(f"{value:.2f}" for value in values)
        lines.append(f"| {name} | {statistics.mean(values):.2f} | {spread} | {each} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
