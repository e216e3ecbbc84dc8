"""Tiny classifiers of other libraries and of a recipe's author, as files, folders and functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

CLASSES, SIDE = 24, 16  # those of the tiny world
IDS = [f"class {number}" for number in range(CLASSES)]
HERE = __name__
INPUT: dict[str, Any] = {"image_size": SIDE, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]}
TORCHVISION = "mobilenet_v3_small"


class Small(nn.Module):
    """Two layers, the last one a classifier."""

    def __init__(self, num_classes: int = CLASSES, width: int = 8) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.BatchNorm2d(width)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, S, S] to logits [B, C]."""
        logits: torch.Tensor = self.classifier(self.norm(self.body(images)).relu().mean((2, 3)))
        return logits


class Body(Small):
    """The same without its classifier."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, S, S] to embeddings [B, D]."""
        return self.norm(self.body(images)).relu().mean((2, 3))  # type: ignore[no-any-return]


class InADict(Small):
    """The same, which gives more than logits."""

    def forward(self, images: torch.Tensor) -> Any:
        """Images [B, 3, S, S] to a mapping."""
        return {"logits": super().forward(images), "loss": None}


class Scaled(Small):
    """The same, whose last operation is none of a module with weights."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [B, 3, S, S] to logits [B, C]."""
        return super().forward(images) * 2


class OfTwoModes(Small):
    """The same, which gives a pair while it trains."""

    def forward(self, images: torch.Tensor) -> Any:
        """Images [B, 3, S, S] to logits [B, C], or a pair of them."""
        logits = super().forward(images)
        return (logits, logits) if self.training else logits


def spread(network: nn.Module, seed: int = 3) -> nn.Module:
    """The network with weights that follow from the seed alone, none of which has a special value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in (*network.parameters(), *network.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + (0.5 if tensor.ndim < 2 else -0.5))
    return network


def small(width: int = 8) -> nn.Module:
    """Makes a network that has its weights."""
    return spread(Small(width=width))


def no_network() -> str:
    """Makes none."""
    return "a network"


def no_logits() -> nn.Module:
    """Makes a network of another kind."""
    return nn.Conv2d(3, 4, 1)


def broken(width: int) -> nn.Module:
    """Makes an error."""
    raise RuntimeError(f"no network of {width}")


def vit(**changes: Any) -> nn.Module:
    """A tiny one of transformers."""
    transformers = pytest.importorskip("transformers")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    labels = {"id2label": dict(enumerate(IDS)), "label2id": {name: number for number, name in enumerate(IDS)}}
    config = transformers.ViTConfig(**{**shape, "image_size": SIDE, "patch_size": 8, **labels, **changes})
    return spread(transformers.ViTForImageClassification(config)).eval()


def vit_folder(folder: Path, processor: Any = None, **changes: Any) -> nn.Module:
    """Write a tiny one of transformers, with its preprocessing, and return it."""
    transformers = pytest.importorskip("transformers")
    network = vit(**changes)
    save: Any = network.save_pretrained
    save(folder)
    if processor is None:
        size = {"height": SIDE, "width": SIDE}
        processor = transformers.ViTImageProcessor(size=size, image_mean=INPUT["mean"], image_std=INPUT["std"])
    processor.save_pretrained(folder)
    return network


def torchvision_file(path: Path, classes: int = CLASSES) -> nn.Module:
    """Write the weights of a network of torchvision's, and return it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = spread(torchvision.models.get_model(TORCHVISION, num_classes=classes)).eval()
    torch.save(network.state_dict(), path)
    return network


def fetched_torchvision(folder: Path, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    """A network of torchvision's whose weights lie where torch keeps what it has fetched."""
    weights: Any = torchvision.models.get_model_weights(TORCHVISION).DEFAULT
    monkeypatch.setenv("TORCH_HOME", str(folder))
    (folder / "hub" / "checkpoints").mkdir(parents=True)
    return torchvision_file(folder / "hub" / "checkpoints" / weights.url.rpartition("/")[2], 1000)


def normalised(views: np.ndarray[Any, Any], mean: Any = INPUT["mean"], std: Any = INPUT["std"]) -> torch.Tensor:
    """uint8 views [B, 3, S, S] as a network is shown them."""
    images = torch.from_numpy(views).float() / 255
    return (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
