"""Small images for tests: smooth, noisy and blocky at once, so that every operation changes something."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from tinyvit_kd.runtime.seeding import hash64_range


def sample_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB image of gradients, noise and blocks."""
    y, x = np.mgrid[:height, :width]
    bits = hash64_range(seed, 0, height * width * 3).reshape(height, width, 3)
    noise = (bits >> np.uint64(57)).astype(np.int64) - 64
    smooth = np.stack([x * 255 / width, y * 255 / height, (x // 9 + y // 7) % 3 * 100], axis=-1)
    return Image.fromarray(np.clip(smooth * 0.8 + 20 + noise, 0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The image as the bytes of a file; Pillow's options."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
