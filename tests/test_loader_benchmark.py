"""The benchmarks of the loader and of the loop in small: that they run, and that their figures are what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import loader, loop
from benchmarks.loop import Times
from tinyvit_kd.training.batch import Batch


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_the_loader_is_compared_with_bare_views(capsys: pytest.CaptureFixture[str], shared_data: Path) -> None:
    small = ["--rounds", "1", "--seconds", "0.2", "--size", "16", "--samples", "30000"]
    loader.main(["--photos", str(shared_data / "photos"), *small])
    found = last_line(capsys)
    assert found["over_bare_views"] == min(found["over_bare_views_1"], found["over_bare_views_2"]) > 0
    large = found["large_sets"]["30000"]
    assert large["samples"] >= 30_000
    assert large["worker_peak_mib"] > 0


@pytest.mark.parametrize("views", ["synthetic", "real"])
def test_the_loop_is_compared_with_bare_steps(
    views: str, capsys: pytest.CaptureFixture[str], shared_data: Path
) -> None:
    student = ["--students", "resnet10t", "--classes", "40", "--topk", "5", "--size", "32"]
    small = ["--device", "cpu", "--batch", "8", "--steps", "4", "--rounds", "1"]
    loop.main([*student, *small, "--views", views, "--photos", str(shared_data / "photos")])
    found = last_line(capsys)
    rates = found["students"]["resnet10t"]
    assert found["over_bare_step"] == pytest.approx(rates["loop"] / rates["bare"], abs=1e-4)  # of one round, rounded
    assert 0 <= rates["data_wait"] < 1


def test_what_starts_and_ends_a_run_is_not_timed() -> None:
    times, batch = Times(torch.device("cpu"), 4), Batch(torch.zeros(0), torch.zeros(0), None, None)
    asked = []
    for _ in times.noting(iter([batch] * 4)):
        asked.append((times.begin, times.end))
    assert asked[0][0] == 0
    assert times.begin == asked[1][0] == asked[1][1]
    assert times.end == asked[3][1] > times.begin
