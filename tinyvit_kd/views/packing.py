"""What the native renderer is told of a view, as a list of numbers: its crop, its size, operations and erased boxes."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from tinyvit_kd.views.params import Operation, ViewParams

# Numbers of `Kind` in csrc/view.h.
_AUTO_CONTRAST, _EQUALIZE, _INVERT, _AFFINE, _TURN, _POSTERIZE, _SOLARIZE, _SOLARIZE_ADD = range(8)
_COLOR, _CONTRAST, _BRIGHTNESS, _SHARPNESS, _GAUSSIAN_BLUR = range(8, 13)
_WITH_ONE_NUMBER = {
    "AutoContrast": _AUTO_CONTRAST,
    "Equalize": _EQUALIZE,
    "Invert": _INVERT,
    "Posterize": _POSTERIZE,
    "Solarize": _SOLARIZE,
    "Color": _COLOR,
    "Contrast": _CONTRAST,
    "Brightness": _BRIGHTNESS,
    "Sharpness": _SHARPNESS,
    "GaussianBlur": _GAUSSIAN_BLUR,
}


class Window(NamedTuple):
    """A square of a resized image."""

    width: int  # of the whole resized image, pixels
    height: int
    left: int  # of the square, pixels
    top: int


def pack_views(params: Sequence[ViewParams], size: int) -> array[float] | None:
    """The numbers that describe views of ``size`` pixels; None if only the reference has one of their operations."""
    numbers = array("d")
    for each in params:
        packed = [_pack_operation(operation, size) for operation in each.operations]
        operations = [operation for operation in packed if operation is not None]
        if len(operations) < len(packed):
            return None
        numbers.extend((*each.crop, size, size, 0, 0, each.flip, len(operations), len(each.erase)))
        for operation in operations:
            numbers.extend(operation)
        for box in each.erase:
            numbers.extend((box.left, box.top, box.width, box.height, box.noise_offset))
    return numbers


def pack_window(width: int, height: int, window: Window) -> array[float]:
    """The numbers that describe a square of a whole resized image of ``width`` x ``height`` pixels."""
    return array("d", (0, 0, width, height, *window, 0, 0, 0))


def _pack_operation(operation: Operation, size: int) -> tuple[float, ...] | None:
    """The operation's kind and six numbers; None if only the reference has it."""
    name = operation.name
    value = operation.value
    if name in _WITH_ONE_NUMBER:
        return _WITH_ONE_NUMBER[name], value, 0, 0, 0, 0, 0
    match name:
        case "Rotate":
            return _rotation(value, size)
        case "ShearX":
            return _AFFINE, 1, value, 0, 0, 1, 0
        case "ShearY":
            return _AFFINE, 1, 0, 0, value, 1, 0
        case "TranslateX":
            return _AFFINE, 1, 0, value * size, 0, 1, 0
        case "TranslateY":
            return _AFFINE, 1, 0, 0, 0, 1, value * size
        case "SolarizeAdd" if value >= 0:
            return _SOLARIZE_ADD, value, 0, 0, 0, 0, 0
        case _:
            return None


def _rotation(degrees: float, size: int) -> tuple[float, ...]:
    """Pillow's ``rotate`` about the centre of a square: quarter turns are copies, other matrices are rounded."""
    angle = degrees % 360.0
    if angle in (0, 90, 180, 270):
        return _TURN, angle // 90, 0, 0, 0, 0, 0
    radians = -math.radians(angle)
    cosine = round(math.cos(radians), 15)
    sine = round(math.sin(radians), 15)
    minus_sine = round(-math.sin(radians), 15)
    centre = size / 2
    shift_x = cosine * -centre + sine * -centre + centre
    shift_y = minus_sine * -centre + cosine * -centre + centre
    return _AFFINE, cosine, sine, shift_x, minus_sine, cosine, shift_y
