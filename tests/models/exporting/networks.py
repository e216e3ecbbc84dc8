"""Networks to export: small ones with one head and with two, whose answers are no special values."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.models.networks import MEAN, STD
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.models.exporting.deployed import DeployedNetwork, InputKind
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import ModelCard

TINY_VIT: dict[str, Any] = {
    "tiny_vit": {
        "embed_dims": [8, 16, 16, 32],
        "depths": [1, 1, 1, 1],
        "num_heads": [1, 1, 1, 2],
        "window_sizes": [4] * 4,
    }
}
DEIT: dict[str, Any] = {
    "name": "deit_tiny_distilled_patch16_224",
    "kwargs": {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2},
}
CONVNET: dict[str, Any] = {"name": "resnet18"}


def made(spec: dict[str, Any], size: int, num_classes: int = 7, **names: Any) -> tuple[nn.Module, ModelCard]:
    """A network in evaluation mode with weights that are all of some size, and its card."""
    model = ModelSpec.model_validate(spec)
    card = ModelCard(
        architecture=model.model_dump(mode="json"),
        num_classes=num_classes,
        image_size=size,
        mean=MEAN,
        std=STD,
        **names,
    )
    network = build_network(model, num_classes, size, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*network.named_parameters(), *network.named_buffers()):
            # Not the matrices of the body: with a mean that is not zero, they would make rounding large.
            if tensor.is_floating_point() and (tensor.ndim == 1 or "head" in name):
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.add_((noise - 0.5) * 0.5 if "head" in name else noise * 0.1)
    _let_images_matter(network, DeployedNetwork(network, card, "normalized").sample_images(4, seed=7))
    return network.eval(), card


@torch.no_grad()
def _let_images_matter(network: nn.Module, images: torch.Tensor) -> None:
    """Set running statistics to those of images: with others, an untrained network answers the same to all images."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # a plain mean
            module.reset_running_stats()
    network.train()
    network(images)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1


def deployed(spec: dict[str, Any], size: int, kind: InputKind = "uint8") -> DeployedNetwork:
    """The same, as it is exported."""
    network, card = made(spec, size)
    return DeployedNetwork(network, card, kind).eval()
