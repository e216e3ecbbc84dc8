"""A network as it is exported: from images to one row of logits, whatever it does with its heads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional as F

from tinyvit_kd.models.head import forward_heads
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.normalizer import Normalizer

InputKind = Literal["uint8", "normalized"]
INPUT_KINDS: tuple[str, ...] = get_args(InputKind)
_PATCHES = 4  # of sample images, per side
INPUT, OUTPUT = "images", "logits"  # names of the exported network's input and output


class DeployedNetwork(nn.Module):
    """Maps images to logits whose softmax is the network's answer, as evaluation scores it.

    A network with one head gives its own logits. One with a distillation head gives the logarithm of the mean of both
    heads' softmax, so that whoever uses it need not know of heads.

    Args:
        network: in evaluation mode, on the CPU.
        card: its normalisation.
        input_kind: ``uint8``: levels 0..255, which are normalised here; ``normalized``: float32, normalised before.
    """

    def __init__(self, network: nn.Module, card: ModelCard, input_kind: InputKind) -> None:
        super().__init__()
        self.network, self.card, self.input_kind = network, card, input_kind
        normalize = Normalizer(card.mean, card.std, torch.device("cpu"))
        self.scale, self.shift = nn.Buffer(normalize.scale), nn.Buffer(normalize.shift)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images [N, 3, S, S] to float32 logits [N, C]."""
        if self.input_kind == "uint8":
            images = images.to(torch.float32) * self.scale - self.shift
        logits, by_head = forward_heads(self.network, images)
        if not by_head:
            return logits.float()
        heads = [each.float().log_softmax(dim=1) for each in by_head.values()]
        return torch.stack(heads).logsumexp(dim=0) - math.log(len(heads))

    def sample_images(self, count: int, seed: int) -> torch.Tensor:
        """Patches of colour under noise, as the network takes them: [count, 3, S, S].

        Of mere noise all images look alike to a network, so that mistaking one for another would not be noticed.
        """
        generator = torch.Generator().manual_seed(seed)
        side = self.card.image_size
        patches = F.interpolate(torch.rand(count, 3, _PATCHES, _PATCHES, generator=generator), (side, side))
        noise = torch.rand(count, 3, side, side, generator=generator)
        levels = (255 * (0.75 * patches + 0.25 * noise)).round().to(torch.uint8)
        if self.input_kind == "uint8":
            return levels
        return Normalizer(self.card.mean, self.card.std, torch.device("cpu"))(levels)


@contextmanager
def attention_biases_computed(network: nn.Module) -> Iterator[None]:
    """Let attention biases follow from their weights while a network is exported.

    In evaluation mode timm's TinyViT, LeViT and their like keep them spread out to tokens x tokens. An exported file
    would have those as constants beside the weights, and at 384 pixels be twice as large.
    """
    changed = [
        module
        for module in network.modules()
        if hasattr(module, "get_attention_biases") and hasattr(module, "attention_bias_idxs")
    ]
    for module in changed:
        module.get_attention_biases = _Biases(module)  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in changed:
            del module.get_attention_biases


class _Biases:
    """Stands for a module's own ``get_attention_biases``; no module itself, so that it is not registered as a child."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def __call__(self, _: torch.device) -> torch.Tensor:
        biases: torch.Tensor = self.module.attention_biases[:, self.module.attention_bias_idxs]  # type: ignore[index]
        return biases
