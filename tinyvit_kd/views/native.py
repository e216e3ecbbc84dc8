"""The native renderer: the same bytes as the reference renderer's, from C, if it is built.

It decodes only the part of a JPEG file that the views need, and works on planes. Of any other file it takes the pixels
that Pillow decodes, so that views do not depend on how Pillow resizes. What it is not able to do it answers with None,
and the reference renderer does it. ``TINYVIT_KD_NATIVE=0`` switches it off.
"""

from __future__ import annotations

import importlib
import os
from array import array
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType

import numpy as np
import numpy.typing as npt
from PIL import Image

from tinyvit_kd.config.view_spec import EvalViewSpec, ViewSpec
from tinyvit_kd.views.erasing import noise_table
from tinyvit_kd.views.eval_window import eval_window
from tinyvit_kd.views.operations import mean_colour
from tinyvit_kd.views.packing import Window, pack_views, pack_window
from tinyvit_kd.views.params import ViewParams, sample_params
from tinyvit_kd.views.view_arrays import output, require_views

UInt8 = npt.NDArray[np.uint8]

SWITCH = "TINYVIT_KD_NATIVE"
MODULE = "tinyvit_kd.views._native"
_ERASE_MODES = ("const", "rand", "pixel")


def render_views(
    image_bytes: bytes, seeds: Sequence[int], spec: ViewSpec, processor: str = "", out: UInt8 | None = None
) -> UInt8 | None:
    """One view per seed of a usual JPEG file: uint8 [V, 3, S, S]; None if Pillow must decode the file.

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


def render_pixels(
    image: Image.Image, params: Sequence[ViewParams], spec: ViewSpec, processor: str = "", out: UInt8 | None = None
) -> UInt8 | None:
    """Views of an RGB image, one for each of ``params``: uint8 [V, 3, S, S]; None if not on or not able to.

    Args:
        processor, out: as for ``render_views``.

    Raises:
        ValueError: ``out`` is not such an array.
    """
    if not is_on() or len(params) == 0:
        return None
    return _render(image.tobytes(), image.size, params, spec, processor, out)


def render_image(image: Image.Image, params: ViewParams, spec: ViewSpec, processor: str = "") -> UInt8 | None:
    """The view of an RGB image, as ``views.render.render``: uint8 [3, S, S]; None if not on or not able to."""
    views = render_pixels(image, [params], spec, processor)
    return None if views is None else views[0]


def render_eval(image_bytes: bytes, spec: EvalViewSpec, view: UInt8, processor: str = "") -> bool:
    """The fixed view of a usual JPEG file into ``view``, uint8 [3, S, S]; False if Pillow must decode the file.

    Args:
        view: C-contiguous; its content is undefined if the result is False.
        processor: as for ``render_views``.
    """
    if not is_on():
        return False
    header = module().size(image_bytes)
    if header is None:
        return False
    width, height, doubtful = header
    window = eval_window(spec, width, height)
    # Whatever is too large, the image or its resized form, Pillow finds an error in, maybe another one before.
    if doubtful or not _within_limits(width, height, spec.max_pixels):
        return False
    if not _within_limits(window.width, window.height, spec.max_pixels):
        return False
    return _render_window(image_bytes, (0, 0), pack_window(width, height, window), spec, view, processor)


def render_window(image: Image.Image, window: Window, spec: EvalViewSpec, view: UInt8, processor: str = "") -> bool:
    """A square of an RGB image that is resized as a whole into ``view``; False if not on or not able to.

    Args:
        view, processor: as for ``render_eval``.
    """
    if not is_on():
        return False
    numbers = pack_window(*image.size, window)
    return _render_window(image.tobytes(), image.size, numbers, spec, view, processor)


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
    numbers = pack_views(params, spec.size)
    if numbers is None:
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


def _render_window(
    data: bytes, rgb_size: tuple[int, int], numbers: array[float], spec: EvalViewSpec, view: UInt8, processor: str
) -> bool:
    """As ``_render``, with no operation and nothing erased, so that colours do not matter."""
    require_views(view, (3, spec.size, spec.size), "view")
    bicubic = spec.interpolation == "bicubic"
    done = module().render(data, rgb_size, numbers, spec.size, bicubic, (0, 0, 0), 0, bytes(3), view, processor)
    return bool(done)


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
    return f"views are rendered natively ({module().processor()}); Pillow decodes unusual images"


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
