"""Tiny real networks that several test modules share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec, TinyVitWidths
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import ModelCard, save_model

TINY = TinyVitWidths(
    embed_dims=(16, 24, 32, 40), depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), window_sizes=(4, 4, 4, 2)
)
TINY_SPEC = ModelSpec(tiny_vit=TINY, drop_path_rate=0.0)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def tiny(num_classes: int = 5, seed: int = 0) -> nn.Module:
    """A TinyViT of a few thousand parameters, in evaluation mode, none of whose weights has a special value."""
    network = build_network(TINY_SPEC, num_classes, 32, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point() and tensor.ndim <= 2:
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.1)
    return network.eval()


def card(num_classes: int = 5, **changes: Any) -> ModelCard:
    """The card of ``tiny``."""
    architecture = TINY_SPEC.model_dump(mode="json")
    return ModelCard(architecture=architecture, num_classes=num_classes, image_size=32, mean=MEAN, std=STD, **changes)


def saved(folder: Path, num_classes: int = 5, **changes: Any) -> nn.Module:
    """Write ``tiny`` as a run folder and return it."""
    network = tiny(num_classes)
    save_model(folder / "model.safetensors", network.state_dict(), card(num_classes, **changes))
    return network


def views(count: int = 3, size: int = 32) -> torch.Tensor:
    """uint8 [count, 3, size, size]."""
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
