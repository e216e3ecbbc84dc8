"""The benchmark of stage two in small: that it runs, and that its figures are what they say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import online
from benchmarks.arguments import parse
from benchmarks.memory import peak_mib
from tinyvit_kd.runtime.distributed import solo_job

CPU = torch.device("cpu")
SMALL = ["--device", "cpu", "--teacher", "resnet10t", "--classes", "40", "--topk", "5", "--size", "32", "--rounds", "1"]
ARGUMENTS = [*SMALL, "--students", "tiny_vit_5m_224", "--batches", "2", "--steps", "1"]


def test_stored_targets_are_compared_with_a_teacher_in_the_loop(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = {online.STORED: 1.0, online.ONLINE: 4.0, online.LABELS: 1.0}
    monkeypatch.setattr(online, "memory_of", lambda *_: memory)  # a process for each column would take long
    online.main(ARGUMENTS)
    found, row = json.loads(capsys.readouterr().out.splitlines()[-1]), "tiny_vit_5m_224, batch 2"
    assert found["step_time_ratio"] == found["step_time_ratios"][row] > 0
    assert found["memory_ratio"] == 0.25
    assert set(found["milliseconds"][row]) == set(memory)


def test_memory_is_that_of_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "columns_on", lambda _: [online.STORED])
    np.ones(1 << 27)  # 1 GiB here
    assert 0 < online.memory_of(ARGUMENTS, "tiny_vit_5m_224", 2, CPU)[online.STORED] < peak_mib(CPU)


def test_a_teachers_weights_may_be_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "columns_on", lambda _: [online.LOW])
    options = parse(online._parser(), [*ARGUMENTS, "--teacher", "vit_tiny_patch16_224"], online.DEFAULTS)
    subject = online.Subject(options, solo_job(), options.students[0], options.batches[0])
    subject.run = replace(subject.run, precision="bfloat16")
    subject.columns[online.LOW]()
    assert next(subject.low_task.teacher.parameters()).dtype == torch.bfloat16


def test_the_peak_is_that_of_memory_which_was_used() -> None:
    before = peak_mib(CPU)
    np.ones(200 << 17)  # 200 MiB
    assert peak_mib(CPU) >= max(before, 200)
