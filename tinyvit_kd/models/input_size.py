"""Whether a network gets images of the size that it takes: views are resized, sizes of arguments compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional as F

from tinyvit_kd.errors import ConfigError

RESIZING = "bicubic, antialiased"  # how ``resize_views`` resizes, for people


def resize_views(views: torch.Tensor, image_size: int, memory_format: torch.memory_format) -> torch.Tensor:
    """Views at a network's input size; bicubic and antialiased where they have another size, on their device.

    Args:
        views: uint8 [B, 3, S, S].
        image_size: side of the network's input, pixels.
        memory_format: of the result.

    Returns:
        float32 [B, 3, image_size, image_size], levels 0..255, not rounded.
    """
    images = views.to(torch.float32, memory_format=memory_format)
    if images.shape[-1] == image_size:
        return images
    return F.interpolate(images, (image_size, image_size), mode="bicubic", antialias=True).clamp_(0, 255)


def require_size(kwargs: Mapping[str, Any], image_size: int | None, where: str) -> None:
    """Check that arguments of a model do not ask for another input than it will get.

    Raises:
        ConfigError: they do; the network would fail at its first image.
    """
    asked = kwargs.get("img_size", image_size)
    sides = asked if isinstance(asked, list) else [asked]
    if image_size is None or kwargs.get("dynamic_img_size") or set(sides) == {image_size}:
        return
    raise ConfigError(
        "the network is built for images of another size than it gets",
        where=where,
        found=f"{asked} pixels",
        expected=f"{image_size}",
        fix="leave it out: the size follows from the views, or from image_size",
    )


def side_of(size: Any) -> int:
    """The side of a square input from one number, or from its height and width.

    Raises:
        ValueError: it is not square, or no size at all.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height != width or not isinstance(height, int) or height < 1:
        raise ValueError(f"its network takes images of {height} x {width} pixels, and views are square")
    return height
