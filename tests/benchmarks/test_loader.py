"""The benchmarks of the loader and of the loop in small: that they run, and that their figures are what they say."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import loader, loop
from benchmarks.loop import Times
from tests.benchmarks.conftest import SMALL_NETWORK, Result
from tinyvit_kd.training.batch import Batch


def test_the_loader_is_compared_with_bare_views(result: Result, shared_data: Path) -> None:
    small = ["--rounds", "1", "--seconds", "0.2", "--size", "16", "--samples", "30000"]
    loader.main(["--photos", str(shared_data / "photos"), *small])
    found = result()
    assert found["over_bare_views"] == min(found["over_bare_views_1"], found["over_bare_views_2"]) > 0
    large = found["large_sets"]["30000"]
    assert large["samples"] >= 30_000
    assert large["worker_peak_mib"] > 0


@pytest.mark.parametrize("views", ["synthetic", "real"])
def test_the_loop_is_compared_with_bare_steps(views: str, result: Result, shared_data: Path) -> None:
    small = ["--device", "cpu", "--students", "resnet10t", *SMALL_NETWORK, "--batch", "8", "--steps", "4"]
    loop.main([*small, "--views", views, "--photos", str(shared_data / "photos")])
    found = result()
    rates = found["cases"]["resnet10t"]
    assert found["over_bare_step"] == pytest.approx(rates["loop"] / rates["bare"], abs=1e-4)  # of one round, rounded
    assert 0 <= rates["data_wait"] < 1


def test_a_student_that_fails_is_passed_over(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    loop.main(["--device", "cpu", "--tiny", "--students", "no such network", "resnet10t", "--results", str(path)])
    found = result()
    assert list(found["failed"]) == ["no such network"]
    assert list(found["over_bare_step_by_student"]) == ["resnet10t"]
    assert path.is_file()


def test_what_starts_and_ends_a_run_is_not_timed() -> None:
    times = Times(torch.device("cpu"), 4)
    batch = Batch(torch.zeros(0), torch.zeros(0), None, None)
    asked = []
    for _ in times.noting(iter([batch] * 4)):
        asked.append((times.begin, times.end))
    assert asked[0][0] == 0
    assert times.begin == asked[1][0] == asked[1][1]
    assert times.end == asked[3][1] > times.begin
