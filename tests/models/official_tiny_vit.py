"""Names and shapes of the official TinyViT checkpoints, written down from the architecture (arXiv 2207.10666).

Independent of timm's: the official code (microsoft/Cream, TinyViT/models/tiny_vit.py) names a convolution with its
batch norm ``c`` and ``bn``, calls stages ``layers``, and ends a stage with its downsampling.
"""

from __future__ import annotations

import re
from functools import lru_cache

import timm
from torch import nn

from tests.models.shells import shells

Shape = tuple[int, ...]
Four = tuple[int, int, int, int]

DEPTHS: Four = (2, 2, 6, 2)
# Widths, heads and windows of the published models.
PUBLISHED: dict[str, tuple[Four, Four, Four]] = {
    "tiny_vit_5m_224": ((64, 128, 160, 320), (2, 4, 5, 10), (7, 7, 14, 7)),
    "tiny_vit_11m_224": ((64, 128, 256, 448), (2, 4, 8, 14), (7, 7, 14, 7)),
    "tiny_vit_21m_224": ((96, 192, 384, 576), (3, 6, 12, 18), (7, 7, 14, 7)),
    "tiny_vit_21m_384": ((96, 192, 384, 576), (3, 6, 12, 18), (12, 12, 24, 12)),
    "tiny_vit_21m_512": ((96, 192, 384, 576), (3, 6, 12, 18), (16, 16, 32, 16)),
}


@lru_cache
def timm_shell(name: str) -> nn.Module:
    """timm's network of that name, shapes without numbers; made once for all tests."""
    with shells():
        network: nn.Module = timm.create_model(name, num_classes=1000)
    return network


def published_shapes(name: str, classes: int = 1000) -> dict[str, Shape]:
    """Shapes of a published model's checkpoint, by official name."""
    widths, heads, windows = PUBLISHED[name]
    return official_shapes(widths, DEPTHS, heads, windows, classes)


def official_shapes(widths: Four, depths: Four, heads: Four, windows: Four, classes: int) -> dict[str, Shape]:
    """Shape of every tensor of a checkpoint, by official name."""
    shapes = _conv("patch_embed.seq.0", widths[0] // 2, 3, 3) | _conv("patch_embed.seq.2", widths[0], widths[0] // 2, 3)
    for stage, width in enumerate(widths):
        for block in range(depths[stage]):
            prefix = f"layers.{stage}.blocks.{block}"
            shapes |= _mbconv(prefix, width) if stage == 0 else _block(prefix, width, heads[stage], windows[stage])
        if stage < 3:
            shapes |= _merging(f"layers.{stage}.downsample", width, widths[stage + 1])
    return shapes | _norm("norm_head", widths[3]) | _linear("head", classes, widths[3])


def to_official(name: str) -> str:
    """The official name of a tensor of timm's model."""
    name = re.sub(r"^patch_embed\.conv([12])\.", lambda m: f"patch_embed.seq.{2 * int(m[1]) - 2}.", name)
    name = re.sub(r"^stages\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)
    name = name.replace("stages.", "layers.").replace("head.norm.", "norm_head.").replace("head.fc.", "head.")
    return re.sub(r"\.conv\.weight$", ".c.weight", name)


def _conv(prefix: str, out: int, inputs: int, side: int) -> dict[str, Shape]:
    bn = {f"{prefix}.bn.{part}": (out,) for part in ("weight", "bias", "running_mean", "running_var")}
    return {f"{prefix}.c.weight": (out, inputs, side, side), **bn, f"{prefix}.bn.num_batches_tracked": ()}


def _norm(prefix: str, width: int) -> dict[str, Shape]:
    return {f"{prefix}.weight": (width,), f"{prefix}.bias": (width,)}


def _linear(prefix: str, out: int, inputs: int) -> dict[str, Shape]:
    return {f"{prefix}.weight": (out, inputs), f"{prefix}.bias": (out,)}


def _mbconv(prefix: str, width: int) -> dict[str, Shape]:
    hidden = 4 * width
    return (
        _conv(f"{prefix}.conv1", hidden, width, 1)
        | _conv(f"{prefix}.conv2", hidden, 1, 3)
        | _conv(f"{prefix}.conv3", width, hidden, 1)
    )


def _merging(prefix: str, width: int, out: int) -> dict[str, Shape]:
    return (
        _conv(f"{prefix}.conv1", out, width, 1)
        | _conv(f"{prefix}.conv2", out, 1, 3)
        | _conv(f"{prefix}.conv3", out, out, 1)
    )


def _block(prefix: str, width: int, heads: int, window: int) -> dict[str, Shape]:
    return {
        **_norm(f"{prefix}.attn.norm", width),
        **_linear(f"{prefix}.attn.qkv", 3 * width, width),
        **_linear(f"{prefix}.attn.proj", width, width),
        f"{prefix}.attn.attention_biases": (heads, window**2),
        **_norm(f"{prefix}.mlp.norm", width),
        **_linear(f"{prefix}.mlp.fc1", 4 * width, width),
        **_linear(f"{prefix}.mlp.fc2", width, 4 * width),
        **_conv(f"{prefix}.local_conv", width, 1, 3),
    }
