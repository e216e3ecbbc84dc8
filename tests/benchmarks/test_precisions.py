"""The benchmark of precisions in small, and how answers are compared."""

from __future__ import annotations

import math
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from benchmarks import precisions
from benchmarks.agreement import agreement, scale_head, spreading_scale
from benchmarks.cases import Figures
from benchmarks.networks import random_network
from benchmarks.networks import write_teacher as write_model_file
from tests.benchmarks.conftest import Result

TINY = ["--device", "cpu", "--tiny"]


def test_precisions_are_compared_with_float32(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    precisions.main([*TINY, "--teachers", "resnet10t", "no such network", "--results", str(path)])
    found = result()
    assert list(found["failed"]) == ["no such network, eager"]
    assert path.is_file()
    told = found["cases"]["resnet10t, eager"]
    assert told["mean_best_probability"] == pytest.approx(0.7, abs=1e-3)
    rows = told["rows"]
    assert list(rows) == ["float16, eager", "bfloat16, eager", "float32, eager"]
    assert rows["float32, eager"]["max_difference"] == 0
    assert 0 < rows["float16, eager"]["kl"] < rows["bfloat16, eager"]["kl"] < 0.1
    assert max(found["share_of_the_fastest"]["resnet10t"].values()) == 1
    assert found["rate_over_float32_eager"]["resnet10t"]["float32, eager"] == 1


def test_a_trained_teachers_head_is_left_as_it_is(result: Result, tmp_path: Path) -> None:
    write_model_file(tmp_path / "teacher", "resnet10t", 6, 32)
    given = ["--teachers", "resnet10t", "--checkpoint", str(tmp_path / "teacher"), "--precisions", "float32"]
    precisions.main([*TINY, *given])
    found = result()
    assert found["failed"] == {}
    assert found["settings"]["weights"] == "teacher"
    assert found["cases"]["resnet10t, eager"]["head_scaled_by"] == 1
    with pytest.raises(SystemExit):
        precisions.main([*TINY, *given, "--teachers", "a", "b"])


def test_compiled_teachers_come_one_by_one_behind_eager_ones() -> None:
    options = Namespace(teachers=["a", "b"], precisions=["float16", "float32"], compile=True)
    names = [case.name for case in precisions.in_order(options)]
    assert names[:2] == ["a, eager", "b, eager"]
    assert names[2:4] == ["a, compiled, float16", "b, compiled, float16"]
    assert len(names) == 6


def test_rows_are_compared_over_all_cases_of_a_teacher() -> None:
    def case(teacher: str, **rates: float) -> Figures:
        rows = {row.replace("_", ", "): {"views_per_second": rate, "top1_kept": 0.5} for row, rate in rates.items()}
        return {"teacher": teacher, "rows": rows}

    done = {"1": case("a", float16_eager=200.0, float32_eager=50.0), "2": case("a", float16_compiled=400.0)}
    told = precisions.summary(done | {"3": case("b", float16_eager=7.0)})
    assert told["share_of_the_fastest"]["a"] == {
        "float16, eager": 0.5,
        "float32, eager": 0.125,
        "float16, compiled": 1.0,
    }
    assert told["rate_over_float32_eager"] == {
        "a": {"float16, eager": 4.0, "float32, eager": 1.0, "float16, compiled": 8.0}
    }


def test_answers_are_compared_class_by_class() -> None:
    true = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]).log()
    found = torch.tensor([[0.25, 0.5, 0.25], [0.125, 0.75, 0.125]]).log()
    compared = agreement(found, true, k=1)
    assert compared.max_difference == pytest.approx(0.25)
    assert compared.mean_difference == pytest.approx(0.125)
    assert compared.kl == pytest.approx(0.5 * (0.5 * math.log(2) - 0.25 * math.log(2)))
    assert compared.top1_kept == 0.5
    assert agreement(true, true, k=3) == (0, 0, 0, 1)


def test_a_head_is_scaled_until_its_best_class_has_a_probability() -> None:
    logits = 1e-3 * torch.randn(16, 40, generator=torch.Generator().manual_seed(0)) + 5
    scale = spreading_scale(logits, 0.7)
    assert (logits.double() * scale).softmax(dim=1).amax(dim=1).mean().item() == pytest.approx(0.7, abs=1e-6)
    network, images = random_network("resnet10t", 5, 32).eval(), torch.randn(2, 3, 32, 32)
    before = network(images)
    scale_head(network, 8)
    assert torch.allclose(network(images), 8 * before)
