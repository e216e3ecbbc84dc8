"""The native renderer: the reference renderer's bytes from C, where it is built and where it can.

It decodes only the part of a JPEG file that views need, and does the operations on planes. It answers None to
whatever is unusual, and the reference renderer then says what the file is: a view or a hole.
``TINYVIT_KD_NATIVE=0`` switches it off.
"""

from __future__ import annotations

import importlib
import math
import os
from array import array
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit_kd.config.views import ViewSpec
from tinyvit_kd.views.erasing import noise_table
from tinyvit_kd.views.operations import mean_colour
from tinyvit_kd.views.outputs import output
from tinyvit_kd.views.params import Operation, ViewParams, sample_params

UInt8 = npt.NDArray[np.uint8]

SWITCH = "TINYVIT_KD_NATIVE"
MODULE = "tinyvit_kd.views._native"
_ERASE_MODES = ("const", "rand", "pixel")
# The order of `Kind` in csrc/view.h.
_AUTO_CONTRAST, _EQUALIZE, _INVERT, _AFFINE, _TURN, _POSTERIZE, _SOLARIZE, _SOLARIZE_ADD = range(8)
_COLOR, _CONTRAST, _BRIGHTNESS, _SHARPNESS, _GAUSSIAN_BLUR = range(8, 13)
_ONE_NUMBER = {
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


def render_views(
    image_bytes: bytes, seeds: Sequence[int], spec: ViewSpec, processor: str = "", out: UInt8 | None = None
) -> UInt8 | None:
    """One view a seed from one decoding: uint8 [V, 3, S, S]; None where the reference renderer must do it.

    Args:
        processor: the instruction set (``baseline``, ``avx2``, ``avx512``); by default the best one here.
        out: where the views go, C-contiguous; undefined where the answer is None.

    Raises:
        ValueError: ``out`` is no such array.
    """
    if not is_on() or len(seeds) == 0:
        return None
    found = module().size(image_bytes)
    if found is None or found[2] or not _is_small(found[0], found[1], spec.max_pixels):
        return None
    params = [sample_params(seed, spec, found[0], found[1]) for seed in seeds]
    return _render(image_bytes, (0, 0), params, spec, processor, out)


def render_image(image: Image.Image, params: ViewParams, spec: ViewSpec, processor: str = "") -> UInt8 | None:
    """The view of an RGB image, as ``views.render.render``: uint8 [3, S, S]; None where it is not built or cannot."""
    if _module() is None:
        return None
    views = _render(image.tobytes(), image.size, [params], spec, processor, None)
    return None if views is None else views[0]


def mixup(own: UInt8, partner: UInt8, weight: int, out: UInt8, processor: str = "") -> None:
    """Into ``out``, which may be ``own``: views mixed by own's weight in 1/65536; where ``is_on``.

    Raises:
        ValueError: lengths or the weight do not fit, or ``out`` overlaps ``partner``.
    """
    module().mixup(own, partner, weight, out, processor)


def cutmix(own: UInt8, partner: UInt8, box: tuple[int, int, int, int], out: UInt8) -> None:
    """Into ``out``, which may be ``own``: a view with the partner's (left, top, right, bottom); where ``is_on``.

    Raises:
        ValueError: sizes or the box do not fit, or ``out`` overlaps ``partner``.
    """
    module().cutmix(own, partner, own.shape[-1], box, out)


def _render(
    data: bytes,
    size_of_rgb: tuple[int, int],
    params: Sequence[ViewParams],
    spec: ViewSpec,
    processor: str,
    out: UInt8 | None,
) -> UInt8 | None:
    numbers = array("d")
    if not all(_pack(each, spec.size, numbers) for each in params):
        return None
    views = output(out, (len(params), 3, spec.size, spec.size))
    done = module().render(
        data,
        size_of_rgb,
        numbers,
        spec.size,
        spec.interpolation == "bicubic",
        mean_colour(spec.mean),
        _ERASE_MODES.index(spec.erase_mode),
        noise_table(spec.mean, spec.std),
        views,
        processor,
    )
    return views if done else None


def is_on() -> bool:
    """Whether the native renderer is there and switched on."""
    return _module() is not None and os.environ.get(SWITCH) != "0"


def module() -> ModuleType:
    """The extension itself, where ``is_on``."""
    found = _module()
    assert found is not None
    return found


def supports(processor: str) -> bool:
    """Whether it is built with, and this machine has, an instruction set."""
    return _module() is not None and bool(module().supports(processor))


def path() -> str:
    """The file that was loaded; empty where none was."""
    return str(getattr(_module(), "__file__", ""))


def switch_off() -> None:
    """For this process and those that it starts."""
    os.environ[SWITCH] = "0"


def describe() -> str:
    """One line on which renderer makes the views."""
    if _module() is None:
        return (
            "views are rendered by Pillow: the native renderer is not built (it needs a C compiler and libjpeg-turbo)"
        )
    if not is_on():
        return f"views are rendered by Pillow: the native renderer is switched off ({SWITCH}=0)"
    return f"views are rendered natively ({module().processor()}), unusual images by Pillow"


@lru_cache(maxsize=1)
def _module() -> ModuleType | None:
    try:
        return importlib.import_module(MODULE)
    except ImportError:
        return None


def _is_small(width: int, height: int, max_pixels: int) -> bool:
    """Within the limits, Pillow's own included; what is above them the reference names."""
    pixels, pillows = width * height, Image.MAX_IMAGE_PIXELS
    return pixels <= max_pixels and (pillows is None or pixels <= pillows)


def _pack(params: ViewParams, size: int, numbers: array[float]) -> bool:
    """Append a view's numbers; False: an operation that only the reference has."""
    packed = [_pack_operation(each, size) for each in params.operations]
    operations = [each for each in packed if each is not None]
    if len(operations) < len(packed):
        return False
    numbers.extend((*params.crop, params.flip, len(operations), len(params.erase)))
    for operation in operations:
        numbers.extend(operation)
    for box in params.erase:
        numbers.extend((box.left, box.top, box.width, box.height, box.noise_offset))
    return True


def _pack_operation(operation: Operation, size: int) -> tuple[float, ...] | None:
    """Its kind and six numbers."""
    name, value = operation.name, operation.value
    if name in _ONE_NUMBER:
        return _ONE_NUMBER[name], value, 0, 0, 0, 0, 0
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
    """Pillow's ``rotate`` around the middle of a square: quarter turns are copies, other matrices are rounded."""
    angle = degrees % 360.0
    if angle in (0, 90, 180, 270):
        return _TURN, angle // 90, 0, 0, 0, 0, 0
    radians = -math.radians(angle)
    cosine, sine, back = round(math.cos(radians), 15), round(math.sin(radians), 15), round(-math.sin(radians), 15)
    middle = size / 2
    across = cosine * -middle + sine * -middle + middle
    down = back * -middle + cosine * -middle + middle
    return _AFFINE, cosine, sine, across, back, cosine, down
