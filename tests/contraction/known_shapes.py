"""Shapes for tests: the published TinyViTs, and tiny ones that run in milliseconds."""

from __future__ import annotations

from tinyvit_kd.contraction.shape import Shape

Four = tuple[int, int, int, int]


def tiny_vit(widths: Four, depths: Four = (2, 2, 6, 2), windows: Four = (7, 7, 14, 7)) -> Shape:
    factors = (("widths", widths), ("depths", depths), ("windows", windows))
    ratios = (("mbconv_expand_ratio", 4.0), ("mlp_ratio", 4.0))
    return Shape("tiny_vit", (*factors, *ratios), (("head_widths", (32, 32, 32)), ("local_conv_size", 3)))


PUBLISHED = {
    "5M": tiny_vit((64, 128, 160, 320)),
    "11M": tiny_vit((64, 128, 256, 448)),
    "21M": tiny_vit((96, 192, 384, 576)),
}


def small(depth: int = 1, width: int = 32) -> Shape:
    """A TinyViT whose stages have the same width and depth."""
    return tiny_vit((width, width, width, width), (depth, depth, depth, depth), (7, 7, 7, 7))


def vit(width: int, depth: int) -> Shape:
    """A DeiT-Ti of another width and depth."""
    factors = (("width", width), ("depth", depth), ("mlp_ratio", 4.0))
    return Shape("vit", factors, (("name", "deit_tiny_patch16_224"), ("head_width", 64)))
