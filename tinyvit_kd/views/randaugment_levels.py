"""From RandAugment's magnitude to an operation's final argument, as in timm's ``LEVEL_TO_ARG``.

timm has several names for one operation: ``Posterize`` and ``PosterizeIncreasing`` differ only in how the argument
follows from the magnitude. Here each name is mapped to one of the renderer's operations and to its argument. The
arithmetic is timm's, step by step, so that the arguments are equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

Level = Callable[[float, float], float]
"""(magnitude / 10, random sign ± 1) → final argument."""


def _none(_level: float, _sign: float) -> float:
    return 0.0


def _degrees(level: float, sign: float) -> float:
    return sign * (level * 30.0)


def _slope(level: float, sign: float) -> float:
    return sign * (level * 0.3)


def _shift(level: float, sign: float) -> float:
    return sign * (level * 0.45)


def _bits(level: float, _sign: float) -> float:
    return int(level * 4)


def _bits_increasing(level: float, _sign: float) -> float:
    return 4 - int(level * 4)


def _threshold(level: float, _sign: float) -> float:
    return min(256, int(level * 256))


def _threshold_increasing(level: float, _sign: float) -> float:
    return 256 - min(256, int(level * 256))


def _addend(level: float, _sign: float) -> float:
    return min(128, int(level * 110))


def _factor(level: float, _sign: float) -> float:
    return level * 1.8 + 0.1


def _factor_increasing(level: float, sign: float) -> float:
    return max(0.1, 1.0 + sign * (level * 0.9))


def _grey_factor(level: float, _sign: float) -> float:
    return 1.0 - max(0.5, min(1.0, 0.5 + 0.5 * level))


def _radius(level: float, _sign: float) -> float:
    return max(0.1, min(2.0, 0.1 + (2.0 - 0.1) * level))


OPERATION_OF: Mapping[str, tuple[str, Level]] = {
    "AutoContrast": ("AutoContrast", _none),
    "Equalize": ("Equalize", _none),
    "Invert": ("Invert", _none),
    "Rotate": ("Rotate", _degrees),
    "Posterize": ("Posterize", _bits),
    "PosterizeIncreasing": ("Posterize", _bits_increasing),
    "Solarize": ("Solarize", _threshold),
    "SolarizeIncreasing": ("Solarize", _threshold_increasing),
    "SolarizeAdd": ("SolarizeAdd", _addend),
    "Color": ("Color", _factor),
    "ColorIncreasing": ("Color", _factor_increasing),
    "Contrast": ("Contrast", _factor),
    "ContrastIncreasing": ("Contrast", _factor_increasing),
    "Brightness": ("Brightness", _factor),
    "BrightnessIncreasing": ("Brightness", _factor_increasing),
    "Sharpness": ("Sharpness", _factor),
    "SharpnessIncreasing": ("Sharpness", _factor_increasing),
    "ShearX": ("ShearX", _slope),
    "ShearY": ("ShearY", _slope),
    "TranslateXRel": ("TranslateX", _shift),
    "TranslateYRel": ("TranslateY", _shift),
    "Desaturate": ("Color", _grey_factor),
    "GaussianBlur": ("GaussianBlur", _radius),
}
