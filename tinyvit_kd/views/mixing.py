"""Mixup and CutMix as part of the view (arXiv 1710.09412, 1905.04899).

Pairs are formed within a shard and follow from (seed, shard, view number), so they do not depend on batches, ranks or
workers. λ and box follow from the two seeds of the pair. The conventions are those of timm's ``Mixup``, mode "pair".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.runtime.seeding import Draws, hash64, permutation
from tinyvit_kd.views import native
from tinyvit_kd.views.view_arrays import output, require_views

Uint8 = npt.NDArray[np.uint8]
_ONE = 1 << 16  # λ = 1 in fixed point: mixing uses integer arithmetic, which is the same on every machine


@dataclass(frozen=True)
class Mix:
    """How the two views of a pair are mixed.

    Attributes:
        weight: weight of a view's own image, in 1/65536; for CutMix, it follows from the area of the clipped box.
        box: (left, top, right, bottom) in pixels, filled with the partner; None for Mixup.
    """

    weight: int
    box: tuple[int, int, int, int] | None = None

    @property
    def lam(self) -> float:
        """λ, the weight of the view's own label."""
        return self.weight / _ONE


def pairs(seed: int, shard: int, view: int, length: int) -> npt.NDArray[np.int64]:
    """A shard's samples, pair after pair: int64 [length]; the last one of an odd shard has no partner."""
    return permutation(hash64(seed, 0x70616972, shard, view), length)


@lru_cache(maxsize=256)
def partners(seed: int, shard: int, view: int, length: int) -> npt.NDArray[np.int32]:
    """Index of each sample's partner: int32 [length], -1 for the sample of an odd shard that has none."""
    order = pairs(seed, shard, view, length)
    partner = np.full(length, -1, dtype=np.int32)
    even = length - length % 2
    firsts = order[0:even:2]
    seconds = order[1:even:2]
    partner[firsts] = seconds
    partner[seconds] = firsts
    return partner


def sample_mix(own_seed: int, partner_seed: int, spec: ViewSpec) -> Mix | None:
    """λ and box of a pair, the same for both of its views; None: the pair is not mixed."""
    draws = Draws(0x6D6978, min(own_seed, partner_seed), max(own_seed, partner_seed))
    if not draws.random() < spec.mix_prob:
        return None
    cut = draws.random() < spec.mix_switch_prob if spec.mixup and spec.cutmix else spec.cutmix > 0
    lam = _beta(draws, spec.cutmix if cut else spec.mixup)
    if not cut:
        return Mix(round(lam * _ONE))
    box = _box(draws, spec.size, lam)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return Mix(round((1 - area / spec.size**2) * _ONE), box)


def mix_views(own: Uint8, partner: Uint8, mix: Mix, out: Uint8 | None = None) -> Uint8:
    """Mix two views, uint8 [3, S, S] and C-contiguous, into one of the same shape; natively if that is available.

    Args:
        out: the array to fill and return. It may be ``own``; otherwise it must not overlap the views.

    Raises:
        ValueError: views, mix or ``out`` do not fit together.
    """
    mixed = _checked_output(own, partner, mix, out)
    if not native.is_on():
        return reference_mix(own, partner, mix, mixed)
    if mix.box is None:
        native.mixup(own, partner, mix.weight, mixed)
    else:
        native.cutmix(own, partner, mix.box, mixed)
    return mixed


def reference_mix(own: Uint8, partner: Uint8, mix: Mix, out: Uint8 | None = None) -> Uint8:
    """The same with NumPy alone, which defines what a mixed view is."""
    mixed = _checked_output(own, partner, mix, out)
    if mix.box is not None:
        left, top, right, bottom = mix.box
        mixed[:] = own
        mixed[:, top:bottom, left:right] = partner[:, top:bottom, left:right]
        return mixed
    weighted = own.astype(np.uint32) * np.uint32(mix.weight) + partner.astype(np.uint32) * np.uint32(_ONE - mix.weight)
    mixed[:] = (weighted + np.uint32(_ONE // 2)) >> np.uint32(16)
    return mixed


def _checked_output(own: Uint8, partner: Uint8, mix: Mix, out: Uint8 | None) -> Uint8:
    """The array for the mixed view, after checking the arguments, with the same errors for both implementations."""
    size = own.shape[-1] if own.ndim else 0
    for name, view in (("own", own), ("partner", partner)):
        require_views(view, (3, size, size), name)
    left, top, right, bottom = mix.box or (0, 0, size, size)
    if not (0 <= mix.weight <= _ONE and 0 <= left <= right <= size and 0 <= top <= bottom <= size):
        raise ValueError(f"{mix} does not fit views of {size} x {size} pixels")
    mixed = output(out, own.shape)
    # Comparing memory bounds is exact here, since the arrays are contiguous.
    if np.may_share_memory(mixed, partner) or (
        mixed.ctypes.data != own.ctypes.data and np.may_share_memory(mixed, own)
    ):
        raise ValueError("out overlaps one of the views without being own itself")
    return mixed


def _box(draws: Draws, size: int, lam: float) -> tuple[int, int, int, int]:
    """A box with about (1 - λ) of the area around a uniform centre, clipped at the borders.

    Half of an odd side is rounded down, as in CutMix's published code, and as in timm when DeiT and TinyViT were
    trained. timm's ``rand_bbox`` now rounds it up on the right and at the bottom, which is one pixel more.
    """
    cut = int(size * math.sqrt(1 - lam))
    y = draws.integer(0, size - 1)
    x = draws.integer(0, size - 1)
    edges = (x - cut // 2, y - cut // 2, x + cut // 2, y + cut // 2)
    clipped = [min(max(edge, 0), size) for edge in edges]
    return clipped[0], clipped[1], clipped[2], clipped[3]


def _beta(draws: Draws, alpha: float) -> float:
    """A draw from Beta(α, α), rounded to 1e-9 so that last-bit differences between libms do not matter."""
    first = _gamma(draws, alpha)
    second = _gamma(draws, alpha)
    return round(first / (first + second), 9) if first + second > 0 else 0.5


def _gamma(draws: Draws, shape: float) -> float:
    """A gamma draw (Marsaglia and Tsang, 2000), for shapes below 1 with their boost."""
    if shape < 1:
        return _gamma(draws, shape + 1) * math.pow(1 - draws.random(), 1 / shape)
    d = shape - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        x = draws.gauss(0, 1)
        v = (1 + c * x) ** 3
        if v > 0 and math.log(1 - draws.random()) < 0.5 * x * x + d - d * v + d * math.log(v):
            return d * v
