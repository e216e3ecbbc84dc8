"""Which square of which resized image is the fixed view of evaluation."""

from __future__ import annotations

import math

from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.views.packing import Window


def eval_window(spec: EvalViewSpec, width: int, height: int) -> Window:
    """The square that becomes the view of an image of ``width`` x ``height`` pixels, once that is resized."""
    full_width, full_height = _eval_size(spec, width, height)
    # round() rounds half to even, as torchvision's center_crop does.
    left, top = round((full_width - spec.size) / 2), round((full_height - spec.size) / 2)
    return Window(full_width, full_height, left, top)


def _eval_size(spec: EvalViewSpec, width: int, height: int) -> tuple[int, int]:
    """Width and height after resizing and before the central crop."""
    side = math.floor(spec.size / spec.crop_fraction)
    if spec.mode == "squash":
        return side, side
    # The longer side is truncated, not rounded, as torchvision's Resize does.
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
