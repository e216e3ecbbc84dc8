"""From a seed to all random choices of a view.

Their distribution is that of timm's ``RandomResizedCropAndInterpolation``, ``RandAugment`` and ``RandomErasing`` and of
torchvision's ``RandomHorizontalFlip`` and ``ColorJitter``. The stream of random numbers is our own.
"""

from __future__ import annotations

import math
from bisect import bisect
from dataclasses import dataclass
from itertools import accumulate

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.runtime.seeding import Draws
from tinyvit_kd.views.randaugment import RandAugmentPolicy, parse_auto_augment
from tinyvit_kd.views.randaugment_levels import OPERATION_OF

NOISE_LENGTH = 1 << 18
"""Entries per channel in the table of erasing noise, and so the number of possible offsets."""

_ATTEMPTS = 10
_ERASED_AREA = (0.02, 1 / 3)
_ERASED_LOG_RATIO = (math.log(0.3), math.log(1 / 0.3))


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation that is applied, with its final argument (0 for operations without one).

    AutoContrast, Equalize, Invert; Rotate (degrees); ShearX, ShearY (slope); TranslateX, TranslateY (fraction of the
    side); Posterize (bits that remain; black for 0 or less); Solarize (threshold); SolarizeAdd (addend); Color,
    Contrast, Brightness, Sharpness (blend factor; 1 changes nothing); GaussianBlur (radius, pixels).
    """

    name: str
    value: float


@dataclass(frozen=True, slots=True)
class EraseBox:
    """A box of the view, in pixels, and the offset in the noise table where its fill starts."""

    left: int
    top: int
    width: int
    height: int
    noise_offset: int


@dataclass(frozen=True, slots=True)
class ViewParams:
    """Every random choice of a view: ``crop`` is (left, top, width, height) in the sample's pixels."""

    crop: tuple[int, int, int, int]
    flip: bool
    operations: tuple[Operation, ...]
    erase: tuple[EraseBox, ...]


def sample_params(seed: int, spec: ViewSpec, width: int, height: int) -> ViewParams:
    """The random choices that follow from ``seed``, for an image of ``width`` x ``height`` pixels.

    Raises:
        ConfigError: ``spec.auto_augment`` is not a RandAugment policy.
    """
    draws = Draws(int(seed))  # stored seeds are NumPy integers, which would overflow
    return ViewParams(
        crop=_sample_crop(draws, spec, width, height),
        flip=draws.random() < spec.hflip,
        operations=_sample_operations(draws, spec),
        erase=_sample_boxes(draws, spec),
    )


def _sample_crop(draws: Draws, spec: ViewSpec, width: int, height: int) -> tuple[int, int, int, int]:
    """timm's rule, except that a crop has at least one pixel (as in torchvision), which matters for tiny images."""
    log_ratio = math.log(spec.ratio[0]), math.log(spec.ratio[1])
    for _ in range(_ATTEMPTS):
        area = draws.uniform(*spec.scale) * (width * height)
        aspect = math.exp(draws.uniform(*log_ratio))
        crop_width = round(math.sqrt(area * aspect))
        crop_height = round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = draws.integer(0, height - crop_height)
            left = draws.integer(0, width - crop_width)
            return left, top, crop_width, crop_height
    return _central_crop(spec, width, height)


def _central_crop(spec: ViewSpec, width: int, height: int) -> tuple[int, int, int, int]:
    """The largest central crop whose aspect ratio (width / height) is within ``spec.ratio``."""
    low, high = spec.ratio
    crop_width = max(1, round(height * high)) if width / height > high else width
    crop_height = max(1, round(width / low)) if width / height < low else height
    return (width - crop_width) // 2, (height - crop_height) // 2, crop_width, crop_height


def _sample_operations(draws: Draws, spec: ViewSpec) -> tuple[Operation, ...]:
    if spec.auto_augment is None:
        return _sample_jitter(draws, spec.color_jitter)
    policy = parse_auto_augment(spec.auto_augment)
    names = _choose_operations(draws, policy)
    return tuple(
        _sample_operation(draws, policy, name)
        for name in names
        if policy.probability >= 1 or draws.random() <= policy.probability
    )


def _choose_operations(draws: Draws, policy: RandAugmentPolicy) -> list[str]:
    """Names of ``policy.layers`` operations; drawn without replacement if they have weights."""
    last = len(policy.operations) - 1
    if policy.weights is None:
        return [policy.operations[draws.integer(0, last)] for _ in range(policy.layers)]
    cumulative = list(accumulate(policy.weights))
    chosen: list[str] = []
    while len(chosen) < policy.layers:
        name = policy.operations[bisect(cumulative, draws.random() * cumulative[-1], hi=last)]
        if name not in chosen:
            chosen.append(name)
    return chosen


def _sample_operation(draws: Draws, policy: RandAugmentPolicy, name: str) -> Operation:
    operation, level = OPERATION_OF[name]
    magnitude = _sample_magnitude(draws, policy)
    sign = -1.0 if draws.random() > 0.5 else 1.0
    return Operation(operation, level(magnitude / 10.0, sign))


def _sample_magnitude(draws: Draws, policy: RandAugmentPolicy) -> float:
    magnitude: float = policy.magnitude
    if policy.magnitude_std == math.inf:
        magnitude = draws.uniform(0, magnitude)
    elif policy.magnitude_std > 0:
        magnitude = draws.gauss(magnitude, policy.magnitude_std)
    return max(0.0, min(magnitude, policy.magnitude_max))


def _sample_jitter(draws: Draws, strength: float) -> tuple[Operation, ...]:
    """Brightness, contrast and saturation in random order, each by a factor of 1 ± strength."""
    if strength == 0:
        return ()
    names = ["Brightness", "Contrast", "Color"]
    order = [names.pop(draws.integer(0, len(names) - 1)) for _ in range(3)]
    return tuple(Operation(name, draws.uniform(max(0.0, 1 - strength), 1 + strength)) for name in order)


def _sample_boxes(draws: Draws, spec: ViewSpec) -> tuple[EraseBox, ...]:
    if draws.random() > spec.erase_prob:
        return ()
    count = draws.integer(1, spec.erase_count)
    boxes = (_sample_box(draws, spec.size, count) for _ in range(count))
    return tuple(box for box in boxes if box is not None)


def _sample_box(draws: Draws, size: int, count: int) -> EraseBox | None:
    """One of ``count`` boxes, which divide the erased area; None if no attempt finds a box that fits."""
    for _ in range(_ATTEMPTS):
        area = draws.uniform(*_ERASED_AREA) * (size * size) / count
        aspect = math.exp(draws.uniform(*_ERASED_LOG_RATIO))
        height = round(math.sqrt(area * aspect))
        width = round(math.sqrt(area / aspect))
        if width < size and height < size:
            top = draws.integer(0, size - height)
            left = draws.integer(0, size - width)
            return EraseBox(left, top, width, height, draws.integer(0, NOISE_LENGTH - 1))
    return None
