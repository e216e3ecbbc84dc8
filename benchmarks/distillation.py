"""Does it help? CIFAR-10: one teacher, and the same student from scratch, distilled, and distilled and finetuned.

Command:  python -m benchmarks.distillation --data FOLDER_OF_CIFAR10_SHARDS --out FOLDER [--seeds 3] [--ablations]
Result:   a table, ``distillation.json`` (``ablations.json``) in OUT, and a last line of JSON.

The teacher is trained once. Each seed varies the views, the store, the order and the student's first weights. Scratch
has as many optimiser steps as stages two and three together. With ``--ablations`` one thing at a time is changed of a
distillation, see ``benchmarks/ablations.py``. FOLDER holds webdataset tars (or .tar.gz, unpacked into OUT) with timm's
_info.json. What is finished in OUT is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ablation_tables import tables
from benchmarks.ablations import MOST_VIEWS_A_SAMPLE, run_ablations
from benchmarks.machine import describe
from benchmarks.training_runs import (
    MILD,
    OPTIM,
    STUDENT,
    VIEWS,
    dump,
    run_dump,
    run_finetune,
    run_pretrain,
    train_teacher,
    training,
    unpack,
)
from tinyvit_kd.runtime.distributed import Job, start_job

TOPK, STORED_VIEWS = 10, 2
Rows = dict[str, list[float]]  # top-1 in percent, a seed each


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the arguments, run, print."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    shards = unpack(options.data, options.out / "shards")
    with start_job("auto", threads=max(1, (os.cpu_count() or 1) - 1)) as job:
        (ablate if options.ablations else compare_students)(options, shards, job)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The arguments, with what follows from others filled in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher-epochs", type=int, default=8)
    parser.add_argument("--epochs", type=int, help="of stage two: 4 (stage three has one more), with --ablations 12")
    parser.add_argument("--ablations", action="store_true", help="change one thing at a time instead")
    parser.add_argument("--shards", type=int, default=2, help="of the training split that the ablations' students see")
    options = parser.parse_args(arguments)
    options.epochs = options.epochs or (12 if options.ablations else 4)
    if options.ablations and options.epochs % MOST_VIEWS_A_SAMPLE:
        parser.error(f"--epochs must be a multiple of {MOST_VIEWS_A_SAMPLE}, the most views of a sample in a batch")
    return options


def ablate(options: argparse.Namespace, shards: Path, job: Job) -> None:
    """Change one thing at a time, and tell what came of it."""
    result = run_ablations(options, shards, job)
    print(tables(result))
    print(json.dumps(result))


def compare_students(options: argparse.Namespace, shards: Path, job: Job) -> None:
    """Compare a student from scratch with distilled ones."""
    begin = time.perf_counter()
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


def compare(options: argparse.Namespace, shards: Path, job: Job) -> Rows:
    """Top-1 of the teacher and of each kind of student, a seed each."""
    out, rows = options.out, Rows()
    rows["teacher"] = [train_teacher(shards, out / "teacher", options.teacher_epochs, job)["top1"]]
    for seed in range(options.seeds):
        folder = out / f"seed{seed}"
        scratch = training(shards, folder / "scratch", options.epochs + 1, seed) | {
            "views": VIEWS,
            "student": {"tiny_vit": STUDENT, "drop_path_rate": 0.0},
        }
        adapt = OPTIM | {"base_lr": 4e-4, "layer_decay": 0.8, "weight_decay": 1e-8}
        finetuned = training(shards, folder / "finetuned", 1, seed, adapt) | {
            "views": MILD,
            "student": {"init_from": folder / "distilled"},
        }
        finetuned["train"] |= {"freeze_bn_stats": True}
        rows.setdefault("scratch", []).append(run_finetune(scratch, job)["top1"])
        rows.setdefault("distilled", []).append(distil(shards, out / "teacher", folder, options.epochs, seed, job))
        rows.setdefault("distilled + finetuned", []).append(run_finetune(finetuned, job)["top1"])
        print(json.dumps(rows), flush=True)
    return rows


def distil(shards: Path, teacher: Path, folder: Path, epochs: int, seed: int, job: Job) -> float:
    """Top-1 after stages one and two."""
    store = {"path": folder / "store", "topk": TOPK, "views": STORED_VIEWS, "seed": seed}
    run_dump(dump({"path": str(shards), "split": "train"}, teacher, store), job)
    recipe = training(shards, folder / "distilled", epochs, seed) | {
        "store": {"path": folder / "store"},
        "student": {"tiny_vit": STUDENT, "drop_path_rate": 0.0},
    }
    return run_pretrain(recipe, job)["top1"]


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
