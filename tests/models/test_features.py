"""A student's file serves a detector: timm's ``features_only`` reads it as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from tests.models.networks import MEAN, STD
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import ModelCard, save_model
from tinyvit_kd.models.student import open_model

SMALL: dict[str, Any] = {"depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32], "num_heads": [1, 1, 1, 1]}


def save_student(folder: Path) -> Path:
    """A TinyViT by timm's name, with other classes than ImageNet's and running statistics of its own."""
    spec = ModelSpec(name="tiny_vit_5m_224", kwargs=SMALL)
    network = build_network(spec, 7, 64, seed=1).train()
    network(torch.randn(4, 3, 64, 64))
    file = folder / "model.safetensors"
    architecture = spec.model_dump(mode="json")
    card = ModelCard(architecture=architecture, num_classes=7, image_size=64, mean=MEAN, std=STD)
    save_model(file, network.state_dict(), card)
    return file


def stage_outputs(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """What each stage hands to the next."""
    outputs: list[torch.Tensor] = []
    for stage in network.get_submodule("stages").children():
        stage.register_forward_hook(lambda _, __, output: outputs.append(output))
    network(images)
    return outputs


def test_a_detector_gets_four_maps_that_are_the_students_own_stages(tmp_path: Path) -> None:
    file = save_student(tmp_path)
    images = torch.randn(2, 3, 64, 96)
    overlay = {"file": str(file)}
    detector = timm.create_model(
        "tiny_vit_5m_224", features_only=True, pretrained=True, pretrained_cfg_overlay=overlay, **SMALL
    ).eval()
    with torch.inference_mode():
        maps = detector(images)
        expected = stage_outputs(open_model(file)[0].eval(), images)
    assert detector.feature_info.reduction() == [4, 8, 16, 32]
    assert [tuple(each.shape) for each in maps] == [(2, 8, 16, 24), (2, 16, 8, 12), (2, 24, 4, 6), (2, 32, 2, 3)]
    assert all(torch.equal(each, own) for each, own in zip(maps, expected, strict=True))
