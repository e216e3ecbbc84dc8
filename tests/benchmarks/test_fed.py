"""The benchmark of stage two on real views in small, and its figures."""

from __future__ import annotations

import time
from argparse import Namespace
from io import BytesIO
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from PIL import Image

from benchmarks import fed
from benchmarks.fed import in_order, of_linear
from benchmarks.gpu_use import GpuUse
from benchmarks.photos import drawn
from benchmarks.stage_two import Subject, steady
from tests.benchmarks.conftest import Result

TINY = ["--device", "cpu", "--tiny"]


def test_stage_two_is_timed_by_workers(result: Result) -> None:
    fed.main([*TINY, "--students", "no such network", "resnet10t", "--workers", "1"])
    found = result()
    assert list(found["failed"]) == ["no such network, bare steps", "no such network, 1 workers"]
    assert found["settings"]["photos"] == "drawn"
    row = found["cases"]["resnet10t, 1 workers"]
    assert row["digests_checked"] == 96  # 3 epochs of 32 samples: what is loaded ahead is used up in two
    bare = found["cases"]["resnet10t, bare steps"]["views_per_second"]
    loader = found["loader_alone"]["views_per_second"]["1"]
    assert row["gpu_busy"] == pytest.approx(row["views_per_second"] / bare, rel=0.01)
    assert row["of_possible"] == pytest.approx(row["views_per_second"] / min(bare, loader), rel=0.01)
    assert row["gpu_busy_by_driver"] is None
    assert 0 <= row["data_wait"] < 1


def test_the_most_workers_and_the_first_student_come_first() -> None:
    options = Namespace(workers=[1, 2], students=["large", "small"])
    names = [name for name, _ in in_order(options, cast(Subject, SimpleNamespace(loader_alone=len, bare=len, fed=len)))]
    assert names == [
        *("loader alone, 2 workers", "large, bare steps", "large, 2 workers", "small, bare steps", "small, 2 workers"),
        *("loader alone, 1 workers", "large, 1 workers", "small, 1 workers"),
    ]


def test_shards_are_a_whole_number_of_samples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fed.main([*TINY, "--samples", "30"])
    assert "--samples must be a multiple of 4" in capsys.readouterr().err


def test_what_was_loaded_while_the_run_began_is_not_timed() -> None:
    lines = [
        {"step_seconds": 9.0, "data_wait": 0.9, "time": 100.0},
        {"step_seconds": 0.5, "data_wait": 0.2, "time": 105.0},
        {"step_seconds": 1.5, "data_wait": 0.0, "time": 120.0},
    ]
    assert steady(lines, 1, 64) == {"views_per_second": 64.0, "data_wait": 0.05, "times": (100.0, 120.0)}


def test_rates_are_compared_with_those_of_the_fewest_workers() -> None:
    assert of_linear({2: 100.0, 8: 300.0, 16: 800.0}) == {2: 1.0, 8: 0.75, 16: 1.0}
    assert of_linear({}) == {}


def test_drawn_photos_are_as_large_as_photos() -> None:
    images = drawn(2)
    assert images == drawn(2)
    assert images[0] != images[1]
    with Image.open(BytesIO(images[0])) as image:
        assert (image.size, image.mode) == ((500, 375), "RGB")
    assert all(80_000 < len(image) < 125_000 for image in images)


def test_a_gpus_use_is_the_mean_of_the_samples_in_a_time() -> None:
    with GpuUse(torch.device("cpu")) as use:
        pass
    begin = time.time()
    for line in ("50\n", "[N/A]\n", " 100\n"):
        use.note(line)
    assert use.mean(begin, time.time()) == 0.75
    assert use.mean(0, begin - 1) is None
