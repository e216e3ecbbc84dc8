"""timm's own loader builds a run's network, and feeds it as the run was scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from timm.data import create_transform, resolve_model_data_config

from tests.models.networks import MEAN, STD, TINY_SPEC
from tests.models.test_features import SMALL
from tests.models.timm_folders import opened_by_timm
from tests.views.images import encoded, sample_image
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.models.export import export_student
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.models.student import open_model
from tinyvit_kd.views.render import render_eval

DEIT = {"depth": 1, "embed_dim": 24, "num_heads": 2, "patch_size": 8}
SPECS = {
    "by name": ModelSpec(name="tiny_vit_5m_224", kwargs=SMALL),
    "by widths": TINY_SPEC,
    "of a size that its weights depend on": ModelSpec(name="deit_tiny_distilled_patch16_224", kwargs=DEIT),
    "with a tag": ModelSpec(name="resnet18.a1_in1k"),
}
VIEWS: dict[str, dict[str, Any]] = {
    "whole image": {"mode": "squash"},
    "cropped": {"mode": "squash", "crop_pct": 0.75, "interpolation": "bilinear"},
    "centre": {"mode": "center", "crop_pct": 1.0},
    "as usual": {},
}


def exported(folder: Path, spec: ModelSpec, views: dict[str, Any]) -> ModelCard:
    """A run folder with the network, scored in these views."""
    card = ModelCard(
        architecture=spec.model_dump(mode="json"),
        num_classes=7,
        image_size=64,
        mean=MEAN,
        std=STD,
        class_name="seven",
        class_ids=tuple("abcdefg"),
    ).scored_in(EvalViewSpec(size=64, **views))
    network = build_network(spec, 7, 64, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    export_student(folder, network.state_dict(), card)
    return card


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_timm_builds_the_same_network(spec: ModelSpec, tmp_path: Path) -> None:
    exported(tmp_path, spec, {"mode": "squash"})
    own, _ = open_model(tmp_path)
    theirs = opened_by_timm(tmp_path)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(theirs.eval()(images), own.eval()(images))
    described: Any = theirs.pretrained_cfg
    assert described["label_names"] == list("abcdefg")


@pytest.mark.parametrize("views", VIEWS.values(), ids=VIEWS)
def test_timm_shows_it_the_images_that_it_was_scored_on(views: dict[str, Any], tmp_path: Path) -> None:
    card = exported(tmp_path, SPECS["by name"], views)
    data = resolve_model_data_config(opened_by_timm(tmp_path))
    spec = EvalViewSpec(size=64, **views)
    assert {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()} == {
        "input_size": (3, 64, 64),
        "mean": MEAN,
        "std": STD,
        "crop_mode": spec.mode,
        "crop_pct": spec.crop_fraction,
        "interpolation": spec.interpolation,
    }
    image = sample_image(100, 70)
    view = torch.from_numpy(render_eval(encoded(image), card.eval_views))
    theirs = create_transform(**data, is_training=False)(image)
    torch.testing.assert_close(theirs, Normalizer(MEAN, STD, torch.device("cpu"))(view), rtol=0, atol=1e-5)


def test_a_network_that_timm_does_not_know_has_no_such_file(tmp_path: Path) -> None:
    card = ModelCard(architecture={"name": "x"}, num_classes=2, image_size=8, mean=MEAN, std=STD)
    assert export_student(tmp_path, {"weight": torch.zeros(3)}, card) == [tmp_path / "model.safetensors"]


def test_a_run_that_was_not_scored_says_what_evaluate_would_do(tmp_path: Path) -> None:
    card = ModelCard(architecture={"name": "resnet18"}, num_classes=2, image_size=96, mean=MEAN, std=STD)
    export_student(tmp_path, {}, card)
    written = json.loads((tmp_path / "config.json").read_text())["pretrained_cfg"]
    assert (written["crop_mode"], written["crop_pct"], written["interpolation"]) == ("center", 0.875, "bicubic")
    assert np.prod(written["input_size"]) == 3 * 96 * 96
