"""RandAugment policies in timm's grammar.

The grammar is that of timm's ``rand_augment_transform`` (timm/data/auto_augment.py): ``rand``, then sections in any
order, separated by dashes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache

from tinyvit_kd.errors import ConfigError

_DEFAULT_MAGNITUDE = 10
"""timm's magnitudes run from 0 to 10 unless ``mmax`` says otherwise."""


_INCREASING = (
    "AutoContrast",
    "Equalize",
    "Invert",
    "Rotate",
    "PosterizeIncreasing",
    "SolarizeIncreasing",
    "SolarizeAdd",
    "ColorIncreasing",
    "ContrastIncreasing",
    "BrightnessIncreasing",
    "SharpnessIncreasing",
    "ShearX",
    "ShearY",
    "TranslateXRel",
    "TranslateYRel",
)


_PLAIN = tuple(name.removesuffix("Increasing") for name in _INCREASING)


_THREE_AUGMENT = ("SolarizeIncreasing", "Desaturate", "GaussianBlur")


_WEIGHTED = {
    "Rotate": 3.0,
    "ShearX": 2.0,
    "ShearY": 2.0,
    "TranslateXRel": 1.0,
    "TranslateYRel": 1.0,
    "ColorIncreasing": 0.25,
    "SharpnessIncreasing": 0.25,
    "AutoContrast": 0.25,
    "SolarizeIncreasing": 0.05,
    "SolarizeAdd": 0.05,
    "ContrastIncreasing": 0.05,
    "BrightnessIncreasing": 0.05,
    "Equalize": 0.05,
    "PosterizeIncreasing": 0.05,
    "Invert": 0.05,
}


_THREE_AUGMENT_WEIGHTED = {
    "SolarizeIncreasing": 6.0,
    "Desaturate": 6.0,
    "GaussianBlur": 6.0,
    "Rotate": 3.0,
    "ShearX": 2.0,
    "ShearY": 2.0,
    "PosterizeIncreasing": 1.0,
    "AutoContrast": 1.0,
    "ColorIncreasing": 1.0,
    "SharpnessIncreasing": 1.0,
    "ContrastIncreasing": 1.0,
    "BrightnessIncreasing": 1.0,
    "Equalize": 1.0,
    "Invert": 1.0,
}


_NAMED_SETS = ("weights", "3a", "3aw")


_NUMBER = {
    "m": (int, "a whole number, the magnitude, as in m9"),
    "n": (int, "a whole number, the operations per view, as in n2"),
    "p": (float, "a probability from 0 to 1, as in p0.5"),
    "mstd": (float, "a number, the magnitude's standard deviation; above 100 for a uniform magnitude"),
    "mmax": (int, "a whole number, the largest magnitude, as in mmax10"),
    "inc": (int, "0 or 1; 1: operations that grow stronger with the magnitude"),
}


@dataclass(frozen=True)
class RandAugmentPolicy:
    """RandAugment as data.

    Attributes:
        magnitude: mean of the magnitude; its upper end if ``magnitude_std`` is infinite.
        layers: operations drawn per view; each is applied with ``probability``.
        magnitude_std: standard deviation of the magnitude; infinite: uniform in [0, magnitude].
        magnitude_max: magnitudes are clamped to [0, magnitude_max].
        operations: timm's names of the operations to draw from.
        weights: of the operations, which are then drawn without replacement; None: uniform, with replacement.
    """

    magnitude: int
    layers: int
    probability: float
    magnitude_std: float
    magnitude_max: int
    operations: tuple[str, ...]
    weights: tuple[float, ...] | None


@lru_cache(maxsize=32)
def parse_auto_augment(text: str) -> RandAugmentPolicy:
    """The policy that a text in timm's grammar, ``rand-…``, describes.

    Stricter than timm, which ignores sections without a digit, unknown operation sets and repeated keys.

    Raises:
        ConfigError: the text does not follow the grammar, or describes a policy other than RandAugment.
    """
    head, *sections = text.split("-")
    if head != "rand":
        raise _refusal(text, f"policy {head!r}", "a RandAugment policy, such as rand-m9-mstd0.5-inc1")
    numbers, named_set = _read_sections(text, sections)
    operations, weights = _operation_set(named_set, increasing=bool(numbers.get("inc", 0)))
    std = numbers.get("mstd", 0.0)
    policy = RandAugmentPolicy(
        magnitude=int(numbers.get("m", _DEFAULT_MAGNITUDE)),
        layers=int(numbers.get("n", 2)),
        probability=numbers.get("p", 0.5),
        magnitude_std=math.inf if std > 100 else std,
        magnitude_max=int(numbers.get("mmax", 0)) or _DEFAULT_MAGNITUDE,
        operations=operations,
        weights=weights,
    )
    _require_ranges(text, policy)
    return policy


def _read_sections(text: str, sections: list[str]) -> tuple[dict[str, float], str | None]:
    """The numbers of sections by key, and the name of the operation set."""
    numbers: dict[str, float] = {}
    named_set = None
    for section in sections:
        if section.startswith("t") and named_set is None:
            named_set = _read_set(text, section)
            continue
        key, number = _read_number(text, section)
        if key in numbers:
            raise _refusal(text, f"{key!r} twice", "each key once")
        numbers[key] = number
    return numbers, named_set


def _read_set(text: str, section: str) -> str:
    if section[1:] not in _NAMED_SETS:
        raise _refusal(text, f"section {section!r}", "t" + ", t".join(_NAMED_SETS) + ", or no t section")
    return section[1:]


def _read_number(text: str, section: str) -> tuple[str, float]:
    match = re.fullmatch(r"([a-z]+)(\d[\d.]*)", section)
    if match is None or match[1] not in _NUMBER:
        raise _refusal(text, f"section {section!r}", "sections m, n, p, mstd, mmax or inc with a number, or t")
    kind, meaning = _NUMBER[match[1]]
    try:
        return match[1], kind(match[2])
    except ValueError as error:
        raise _refusal(text, f"section {section!r}", meaning) from error


def _operation_set(name: str | None, increasing: bool) -> tuple[tuple[str, ...], tuple[float, ...] | None]:
    if name in ("weights", "3aw"):
        weighted = _WEIGHTED if name == "weights" else _THREE_AUGMENT_WEIGHTED
        return tuple(weighted), tuple(weighted.values())
    if name == "3a":
        return _THREE_AUGMENT, None
    return (_INCREASING if increasing else _PLAIN), None


def _require_ranges(text: str, policy: RandAugmentPolicy) -> None:
    if policy.probability > 1:
        raise _refusal(text, f"p{policy.probability:g}", _NUMBER["p"][1])
    if policy.weights is not None and policy.layers > len(policy.operations):
        count = len(policy.operations)
        raise _refusal(text, f"n{policy.layers}", f"at most n{count}: a weighted set draws without replacement")


def _refusal(text: str, found: str, expected: str) -> ConfigError:
    return ConfigError(
        "auto_augment is not a RandAugment policy that can be rendered",
        where=f"auto_augment: {text}",
        found=found,
        expected=expected,
        fix="write it in timm's RandAugment grammar (rand-m9-mstd0.5-inc1), or set auto_augment: null",
    )
