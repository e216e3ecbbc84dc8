"""Every logger gets the same numbers, from rank 0 alone."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from tinyvit_kd.runtime.distributed import Job, solo_job
from tinyvit_kd.runtime.metric_loggers import MetricsWriter


def test_lines_and_curves_hold_the_same_numbers_also_after_a_resume(tmp_path: Path) -> None:
    for step in (10, 20):
        with closing(MetricsWriter(solo_job(), tmp_path / "run")) as writer:
            writer.write("train", step, {"loss": 1 / step, "lr": 0.5})
            writer.write("eval", step, {"top1": 100.0})
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [list(line) for line in lines] == [
        ["kind", "step", "time", "loss", "lr"],
        ["kind", "step", "time", "top1"],
    ] * 2
    curves = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert sorted(curves.Tags()["scalars"]) == ["eval/top1", "train/loss", "train/lr"]
    points = [(point.step, point.value) for point in curves.Scalars("train/loss")]
    assert [step for step, _ in points] == [10, 20]
    assert [value for _, value in points] == pytest.approx([line["loss"] for line in lines if "loss" in line])


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    with closing(MetricsWriter(Job(1, 2, torch.device("cpu")), tmp_path / "run")) as writer:
        writer.write("train", 1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())
