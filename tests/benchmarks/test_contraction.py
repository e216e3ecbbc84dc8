"""The benchmark of contraction: that it runs to its end, and that its last line says what its trainings did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from benchmarks import contraction
from benchmarks.contraction_tables import tau
from benchmarks.training_runs import CLASSES
from tests.benchmarks.conftest import Result
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.contraction.space import shape_of
from tinyvit_kd.data.building.build import build_shards
from tinyvit_kd.data.building.source_rules import SourceRules
from tinyvit_kd.data.synthetic import DRAWN_CLASSES, write_image_folder

BASE = shape_of(ModelSpec.model_validate({"tiny_vit": contraction.BASE}), CLASSES, 32)


def draw_ten_classes(folder: Path) -> Path:
    """A shard set of drawn images with as many classes as CIFAR-10, in two shards of either split."""
    for seed, split in enumerate(("train", "val")):
        images = folder / split
        write_image_folder(images, 1440, seed)
        for name in DRAWN_CLASSES[CLASSES:]:
            shutil.rmtree(images / name)
        rules = SourceRules(folders_are_classes=True)
        build_shards(images, folder / "shards", split, samples_per_shard=300, seed=seed, processes=1, rules=rules)
    return folder / "shards"


@pytest.mark.slow
def test_a_winner_is_compared_with_uniform_and_random_networks(tmp_path: Path, result: Result) -> None:
    contraction.main(["--data", str(draw_ten_classes(tmp_path)), "--out", str(tmp_path / "out"), "--tiny"])
    found = result()
    assert json.loads((tmp_path / "out" / contraction.RESULT).read_text()) == found
    for name, key in zip(contraction.CONTENDERS, ("winner", "uniform", "uniform_as_fast", "random"), strict=True):
        assert found[f"{key}_top1"] == pytest.approx(found["top1"][name][0], abs=1e-3)
    limit = found["settings"]["limits"]["parameters"]
    assert limit == pytest.approx(0.7 * found["base_parameters"])
    assert all(each["parameters"] <= limit for name in ("winner", "random") for each in found["shapes"][name])
    assert len(found["candidates"]) == 3
    assert {-1 <= found[f"kendall_tau_{name}"] <= 1 for name in ("inherited", "fresh")} == {True}


def test_uniform_shapes_keep_the_proportions_of_the_base() -> None:
    shapes = contraction.uniform_shapes(BASE)
    assert shapes[-1] == BASE
    assert BASE.with_factor("widths", (16, 32, 64, 96)) in shapes
    assert {shape.with_factor("widths", BASE["widths"]) for shape in shapes} == {BASE}


def test_an_order_by_loss_agrees_with_one_by_top1() -> None:
    assert tau([0.1, 0.2, 0.3], [70.0, 60.0, 50.0]) == 1.0
    assert tau([0.1, 0.2, 0.3], [50.0, 60.0, 70.0]) == -1.0
    assert tau([0.1, 0.2, 0.3], [50.0, 50.0, 50.0]) == 0.0
