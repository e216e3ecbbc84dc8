"""The benchmarks of the loader and of the loop in small: that they run, and that their figures are what they say."""

from __future__ import annotations

import argparse
import json
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


def test_the_loader_is_rehearsed_without_photos_at_any_number_of_workers(result: Result, tmp_path: Path) -> None:
    loader.main(["--tiny", "--workers", "3", "1", "--results", str(tmp_path / "loader.json")])
    found = result()
    rates = found["views_per_second"]
    assert sorted(rates) == ["bare, 1", "bare, 3", "loader, 1", "loader, 3"]
    assert found["over_bare_views_3"] == pytest.approx(rates["loader, 3"] / rates["bare, 3"], rel=1e-2)
    assert found["over_single_bare_views_3"] == pytest.approx(rates["loader, 3"] / rates["bare, 1"] / 3, rel=1e-2)
    assert found["over_single_bare_views_1"] == found["over_bare_views_1"]
    assert found["more_workers_than_cores"] == [workers for workers in (1, 3) if workers > found["cores"]]
    assert json.loads((tmp_path / "loader.json").read_text()) == found


def test_a_result_that_is_not_whole_yet_says_what_is_known(tmp_path: Path) -> None:
    options = argparse.Namespace(workers=[2], pin=False, results=tmp_path / "loader.json")
    growing = loader.Result(options)
    growing.noting("bare, 2", lambda: (5.0, 1000.0))  # a round to warm up
    growing.noting("bare, 2", lambda: (10.0, 900.0))
    growing.noting("loader, 2", lambda: (8.0, 1000.0))
    known = json.loads((tmp_path / "loader.json").read_text())
    assert known["views_per_second"] == {"bare, 2": 10, "loader, 2": 8}
    assert known["over_bare_views"] == known["over_bare_views_2"] == 0.8
    assert known["over_bare_processor_time_2"] == 0.9
    assert "over_single_bare_views_2" not in known


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
