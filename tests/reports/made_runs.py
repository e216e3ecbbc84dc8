"""Run folders as training leaves them, made without training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tinyvit_kd.config.yaml_text import yaml_text

RECIPE: dict[str, Any] = {
    "output": "somewhere",
    "student": {"name": "tiny_vit_5m_224", "init_from": None},
    "optim": {"base_lr": 0.002, "weight_decay": 0.05},
    "schedule": {"epochs": 4, "global_batch_size": 64, "seed": 0},
    "eval": {"shards": {"path": "shards", "split": "val"}},
    "stage": "finetune",
    "shards": {"path": "shards", "split": "train"},
    "loss": {"label_smoothing": 0.1},
}


def train_line(step: int, total: int, **figures: float) -> dict[str, Any]:
    """A line of training, with figures that look like some."""
    share = step / total
    return {
        "kind": "train",
        "step": step,
        "time": 1_796_000_000.0 + 2 * step,
        "accuracy": share / 2,
        "loss": 3 * math.exp(-share),
        "lr": 0.002 * (1 - share),
        "grad_norm": 1.5,
        "step_seconds": 0.5,
        "data_wait": 0.01,
        "holes": 0.0,
        "skipped_steps": 0,
        **figures,
    }


def write_run(
    folder: Path,
    *,
    lines: int = 8,
    total: int = 80,
    recipe: Mapping[str, Any] | None = RECIPE,
    finished: bool = True,
    tail: str = "",
    **figures: float,
) -> Path:
    """Write a run folder.

    Args:
        lines: of training; an evaluation stands behind every fourth.
        total: steps of the whole run.
        recipe: None: the folder of an old run, which has none.
        finished: whether there is a summary.
        tail: what stands behind the last line of the metrics.
        figures: of every line of training.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if recipe is not None:
        (folder / "recipe.yaml").write_text(yaml_text(dict(recipe)))
    with (folder / "metrics.jsonl").open("w") as file:
        for number in range(1, lines + 1):
            step = number * total // max(lines, 8)
            file.write(json.dumps(train_line(step, total, **figures)) + "\n")
            if number % 4 == 0:
                scores = {"top1": 40.0 + number, "top5": 80.0, "mean_per_class": 39.0, "samples": 100.0}
                file.write(
                    json.dumps({"kind": "eval", "step": step, "time": 1_796_000_000.0 + 2 * step, **scores}) + "\n"
                )
        file.write(tail)
    (folder / "log.txt").write_text("2026-11-30 19:22:57  training\n2026-11-30 19:23:05  the last line of the log\n")
    if finished:
        results = {"top1": 48.0, "top5": 80.0, "loss": 1.1, "step": total, "images_per_second": 128.0}
        (folder / "summary.json").write_text(json.dumps({"results": results, "identity": {}}))
    return folder
