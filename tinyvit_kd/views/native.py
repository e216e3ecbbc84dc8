"""The native renderer: the same bytes as the reference renderer's, from C, if it is built and for usual images.

It decodes only the part of a JPEG file that the views need, and works on planes. For anything unusual it returns None,
and the reference renderer then decides whether the file gives a view or a hole. ``TINYVIT_KD_NATIVE=0`` switches it
off.
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

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.views.erasing import noise_table
from tinyvit_kd.views.operations import mean_colour
from tinyvit_kd.views.params import Operation, ViewParams, sample_params
from tinyvit_kd.views.view_arrays import output

UInt8 = npt.NDArray[np.uint8]

SWITCH = "TINYVIT_KD_NATIVE"
MODULE = "tinyvit_kd.views._native"
_ERASE_MODES = ("const", "rand", "pixel")
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


def render_views(
    image_bytes: bytes, seeds: Sequence[int], spec: ViewSpec, processor: str = "", out: UInt8 | None = None
) -> UInt8 | None:
    """One view per seed from one decoding: uint8 [V, 3, S, S]; None if the reference renderer must do it.

    Args:
        processor: the instruction set (``baseline``, ``avx2``, ``avx512``); by default the best of this machine.
        out: the array to fill and return, C-contiguous; its content is undefined if the result is None.

    Raises:
        ValueError: ``out`` is not such an array.
    """
    if not is_on() or len(seeds) == 0:
        return None
    header = module().size(image_bytes)
    if header is None:
        return None
    width, height, doubtful = header
    if doubtful or not _within_limits(width, height, spec.max_pixels):
        return None
    params = [sample_params(seed, spec, width, height) for seed in seeds]
    return _render(image_bytes, (0, 0), params, spec, processor, out)


def render_image(image: Image.Image, params: ViewParams, spec: ViewSpec, processor: str = "") -> UInt8 | None:
    """The view of an RGB image, as ``views.render.render``: uint8 [3, S, S]; None if not built or not able to."""
    if _module() is None:
        return None
    views = _render(image.tobytes(), image.size, [params], spec, processor, None)
    return None if views is None else views[0]


def mixup(own: UInt8, partner: UInt8, weight: int, out: UInt8, processor: str = "") -> None:
    """Mixup of two views into ``out``, which may be ``own``; ``weight`` is own's, in 1/65536. Requires ``is_on``.

    Raises:
        ValueError: lengths or the weight do not fit, or ``out`` overlaps ``partner``.
    """
    module().mixup(own, partner, weight, out, processor)


def cutmix(own: UInt8, partner: UInt8, box: tuple[int, int, int, int], out: UInt8) -> None:
    """CutMix of two views into ``out``, which may be ``own``; the partner fills the box. Requires ``is_on``.

    Args:
        box: (left, top, right, bottom), pixels.

    Raises:
        ValueError: sizes or the box do not fit, or ``out`` overlaps ``partner``.
    """
    module().cutmix(own, partner, own.shape[-1], box, out)


def _render(
    data: bytes,
    rgb_size: tuple[int, int],
    params: Sequence[ViewParams],
    spec: ViewSpec,
    processor: str,
    out: UInt8 | None,
) -> UInt8 | None:
    """Render a JPEG file, for which ``rgb_size`` is (0, 0), or RGB pixels of that width and height."""
    numbers = array("d")
    if not all(_pack(each, spec.size, numbers) for each in params):
        return None
    views = output(out, (len(params), 3, spec.size, spec.size))
    done = module().render(
        data,
        rgb_size,
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
    """Whether the native renderer is built and switched on."""
    return _module() is not None and os.environ.get(SWITCH) != "0"


def module() -> ModuleType:
    """The extension module; requires ``is_on``."""
    extension = _module()
    assert extension is not None
    return extension


def supports(processor: str) -> bool:
    """Whether the extension was built for an instruction set and this machine has it."""
    return _module() is not None and bool(module().supports(processor))


def path() -> str:
    """The file of the extension; empty if none was loaded."""
    return str(getattr(_module(), "__file__", ""))


def switch_off() -> None:
    """Switch it off in this process and in those that it starts."""
    os.environ[SWITCH] = "0"


def describe() -> str:
    """One line that says which renderer makes the views."""
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


def _within_limits(width: int, height: int, max_pixels: int) -> bool:
    """Whether an image is within ``max_pixels`` and Pillow's own limit; for larger ones the reference raises errors."""
    pixels = width * height
    pillow_limit = Image.MAX_IMAGE_PIXELS
    return pixels <= max_pixels and (pillow_limit is None or pixels <= pillow_limit)


def _pack(params: ViewParams, size: int, numbers: array[float]) -> bool:
    """Append the numbers that describe a view; False if only the reference has one of its operations."""
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
