"""The benchmark of stage two in small: that it runs, and that its figures are what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import online
from benchmarks.arguments import parse
from benchmarks.logit_task import LogitTask, logit_task
from benchmarks.memory import peak_mib
from tests.benchmarks.conftest import SMALL_TEACHER, Result
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.models.families import build_network
from tinyvit_kd.runtime.distributed import solo_job

CPU = torch.device("cpu")
ARGUMENTS = [*SMALL_TEACHER, "--students", "tiny_vit_5m_224", "--batches", "2", "--steps", "1"]


def test_stored_targets_are_compared_with_a_teacher_in_the_loop(result: Result) -> None:
    memory = {online.STORED: 1.0, online.ONLINE: 4.0, online.LABELS: 1.0}
    online.main(ARGUMENTS, lambda *_: memory)  # a process for each column would take long
    found = result()
    row = "tiny_vit_5m_224, batch 2"
    assert found["step_time_ratio"] == found["step_time_ratios"][row] > 0
    assert found["memory_ratio"] == 0.25
    assert set(found["cases"][row]["milliseconds"]) == set(memory)


def test_memory_is_that_of_a_process_of_its_own() -> None:
    np.ones(1 << 27)  # 1 GiB here
    assert 0 < online.memory_of_column(ARGUMENTS, "tiny_vit_5m_224", 2, online.STORED) < peak_mib(CPU)


def test_a_teachers_weights_may_be_in_bfloat16() -> None:
    options = parse(online._parser(), [*ARGUMENTS, "--teacher", "vit_tiny_patch16_224"], online.DEFAULTS)
    subject = online.Subject(options, solo_job(), options.students[0], options.batches[0])
    subject.run = replace(subject.run, precision="bfloat16")
    subject.steps[online.LOW]()
    assert next(subject.low_task.get_submodule("teacher").parameters()).dtype == torch.bfloat16


def test_a_row_that_fails_is_passed_over(result: Result) -> None:
    online.main(["--device", "cpu", "--tiny", "--students", "no such network", "resnet10t"])
    found = result()
    assert list(found["failed"]) == ["no such network, batch 2"]
    assert list(found["step_time_ratios"]) == ["resnet10t, batch 2"]


def test_a_timm_without_the_task_is_helped_out() -> None:
    task = pytest.importorskip("timm.task", reason="this timm has no distillation task to compare with")
    student, teacher = (build_network(ModelSpec(name="resnet10t"), 5, 32, seed) for seed in (0, 1))
    images, labels = torch.randn(2, 3, 32, 32), torch.tensor([0, 3])
    theirs = logit_task(student, teacher, CPU)
    assert isinstance(theirs, task.LogitDistillationTask)
    ours = LogitTask(student, teacher).train()
    assert student.training
    assert not teacher.training
    losses = [each.eval()(images, labels)["loss"].item() for each in (theirs, ours)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert losses[0] > 0


def test_the_peak_is_that_of_memory_which_was_used() -> None:
    before = peak_mib(CPU)
    np.ones(200 << 17)  # 200 MiB
    assert peak_mib(CPU) >= max(before, 200)
