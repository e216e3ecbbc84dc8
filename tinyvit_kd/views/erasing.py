"""Random erasing on uint8 views; timm erases normalised ones.

timm fills boxes with N(0, 1) after normalisation. Here the same noise is mapped back to levels by mean and std, and
clipped to 0 … 255 (near ± 2.1 standard deviations). It comes from a fixed table instead of a generator.
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.runtime.seeding import hash64, hash64_range
from tinyvit_kd.views.operations import mean_colour
from tinyvit_kd.views.params import NOISE_LENGTH, EraseBox

UInt8 = npt.NDArray[np.uint8]
Triple = tuple[float, float, float]  # red, green, blue

_NOISE_KEY = 0x6E6F697365


def erase(view: UInt8, box: EraseBox, spec: ViewSpec) -> None:
    """Fill the box of ``view``, uint8 [3, S, S], in place.

    ``pixel``: pixel (r, c) of the box gets entry ``noise_offset + r * width + c`` of its channel's noise table, which
    wraps around. ``rand``: the whole box gets entry ``noise_offset``. ``const``: the mean colour.
    """
    target = view[:, box.top : box.top + box.height, box.left : box.left + box.width]
    if spec.erase_mode == "const":
        target[:] = np.array(mean_colour(spec.mean), np.uint8)[:, None, None]
        return
    count = box.width * box.height if spec.erase_mode == "pixel" else 1
    noise = _noise_entries(noise_table(spec.mean, spec.std), box.noise_offset, count)
    target[:] = noise.reshape(3, box.height, box.width) if spec.erase_mode == "pixel" else noise[:, :, None]


def _noise_entries(table: UInt8, start: int, count: int) -> UInt8:
    """Entries ``start`` to ``start + count - 1`` of every channel, wrapping around: uint8 [3, count]."""
    if start + count <= NOISE_LENGTH:
        return table[:, start : start + count]
    return np.take(table, np.arange(start, start + count), axis=1, mode="wrap")


@lru_cache(maxsize=4)
def noise_table(mean: Triple, std: Triple) -> UInt8:
    """``clip(round((z * std + mean) * 255))`` for standard normal z: uint8 [3, NOISE_LENGTH], read-only."""
    channels = zip(mean, std, strict=True)
    table = np.stack([_noise_channel(channel, *moments) for channel, moments in enumerate(channels)])
    table.setflags(write=False)
    return table


def _noise_channel(channel: int, mean: float, std: float) -> UInt8:
    """Inversion: a level is the number of the 255 boundaries between levels that lie below the uniform draw.

    Draw and boundaries are 32-bit integers, so that last-bit differences between libms do not matter.
    """
    levels = NormalDist(255 * mean, max(255 * std, 1e-9))
    boundaries = np.array([round(levels.cdf(level + 0.5) * 2**32) for level in range(255)], np.int64)
    uniform = hash64_range(hash64(_NOISE_KEY, channel), 0, NOISE_LENGTH) >> np.uint64(32)
    return np.searchsorted(boundaries, uniform.astype(np.int64), side="right").astype(np.uint8)
