"""Every logger gets the same numbers, from rank 0 alone, and none of them ends a run."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from tinyvit_kd.config.logging import LoggingConfig, MlflowConfig, WandbConfig
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime import log, metric_loggers
from tinyvit_kd.runtime.distributed import Job, solo_job
from tinyvit_kd.runtime.loggers.base import LoggedRun, MetricLogger
from tinyvit_kd.runtime.metric_loggers import LOGGERS, MetricsWriter, require_loggers


def test_lines_and_curves_hold_the_same_numbers_also_after_a_resume(tmp_path: Path) -> None:
    for step in (10, 20):
        with MetricsWriter(solo_job(), tmp_path / "run") as writer:
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
    with MetricsWriter(Job(1, 2, torch.device("cpu")), tmp_path / "run") as writer:
        writer.write("train", 1, {"loss": 1.0})
    assert not list(tmp_path.iterdir())


def test_tensorboard_can_be_switched_off_and_the_lines_are_always_there(tmp_path: Path) -> None:
    with MetricsWriter(solo_job(), tmp_path, LoggingConfig(tensorboard=False)) as writer:
        writer.write("train", 1, {"loss": 1.0})
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


class Broken(MetricLogger):
    """A logger whose disk is full, and which notes how the run ended."""

    ends: list[bool]

    def __init__(self, run: LoggedRun) -> None:
        self.ends = run.about["ends"]

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        del kind, step, values
        raise OSError(28, "No space left on device")

    def close(self, succeeded: bool = True) -> None:
        self.ends.append(succeeded)
        raise RuntimeError("cannot close either")


def test_a_logger_that_fails_says_so_once_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log._warned.cache_clear()
    monkeypatch.setattr(metric_loggers, "LOGGERS", {"a broken one": Broken, "metrics.jsonl": LOGGERS["metrics.jsonl"]})
    ends: list[bool] = []
    with MetricsWriter(solo_job(), tmp_path, about={"ends": ends}) as writer:
        for step in range(3):
            writer.write("train", step, {"loss": 1.0})
    with pytest.raises(ValueError, match="the run failed"), MetricsWriter(solo_job(), tmp_path, about={"ends": ends}):
        raise ValueError("the run failed")
    assert ends == [True, False]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3
    said = capsys.readouterr().err
    assert said.count("a broken one cannot be written (No space left on device); the run goes on") == 1


@pytest.mark.parametrize(("name", "section"), [("wandb", WandbConfig()), ("mlflow", MlflowConfig())])
def test_a_package_that_is_missing_is_named_with_the_command_to_install_it(
    name: str, section: WandbConfig | MlflowConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_loggers(LoggingConfig(**{name: section}))  # installed here
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=rf"pip install 'tinyvit_kd\[{name}\]'") as caught:
        require_loggers(LoggingConfig(**{name: section}))
    assert caught.value.where == f"logging.{name}"
    require_loggers(LoggingConfig())
