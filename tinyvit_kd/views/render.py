"""From image bytes and seeds to views. The reference renderer uses Pillow 13, whose bytes define what a view is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import xxhash
from PIL import Image
from PIL import __version__ as pillow_version

from tinyvit_kd.config.view_spec import EvalViewSpec, ViewSpec
from tinyvit_kd.errors import RendererError
from tinyvit_kd.views import native
from tinyvit_kd.views.decode import check_pixels, decode
from tinyvit_kd.views.erasing import erase
from tinyvit_kd.views.eval_window import eval_window
from tinyvit_kd.views.operations import RESAMPLING, Canvas, apply_operation, mean_colour
from tinyvit_kd.views.packing import Window
from tinyvit_kd.views.params import ViewParams, sample_params
from tinyvit_kd.views.view_arrays import output

__all__ = ["decode", "reference_eval", "reference_views", "render", "render_eval", "render_views", "view_digest"]

UInt8 = npt.NDArray[np.uint8]

_REFERENCE_SWITCH = "TINYVIT_KD_REFERENCE"


def render(image: Image.Image, params: ViewParams, spec: ViewSpec) -> UInt8:
    """The view of an RGB image that ``params`` describes: uint8 [3, S, S], C-contiguous."""
    view = np.empty((3, spec.size, spec.size), np.uint8)
    _render_into(view, image, params, spec)
    return view


def render_views(image_bytes: bytes, seeds: Sequence[int], spec: ViewSpec, out: UInt8 | None = None) -> UInt8:
    """One view per seed from one decoding: uint8 [V, 3, S, S], C-contiguous; rendered natively if possible.

    If the spec has a transform, that renders the views (``views.transform``).

    Args:
        out: the array to fill and return, of that shape; a new one by default.

    Raises:
        BadImageError: the image cannot be decoded or is too large; the content of ``out`` is then undefined.
        ConfigError: ``spec.auto_augment`` is not a RandAugment policy, or ``spec.transform`` cannot be built.
        RendererError: only the reference can render the view, and it is switched off.
        TransformError: ``spec.transform`` fails.
        ValueError: ``out`` is not such an array.
    """
    if spec.transform is not None:
        from tinyvit_kd.views.transform import transform_views

        return transform_views(image_bytes, seeds, spec, out=out)
    views = native.render_views(image_bytes, seeds, spec, out=out)
    if views is not None:
        return views
    image = decode(image_bytes, spec.max_pixels)
    params = [sample_params(seed, spec, *image.size) for seed in seeds]
    views = native.render_pixels(image, params, spec, out=out)
    if views is not None:
        return views
    if params:
        _require_reference(image)
    return _reference_views(image, params, spec, out)


def reference_views(image_bytes: bytes, seeds: Sequence[int], spec: ViewSpec, out: UInt8 | None = None) -> UInt8:
    """The same with Pillow alone, whose bytes define what a view is."""
    image = decode(image_bytes, spec.max_pixels)
    return _reference_views(image, [sample_params(seed, spec, *image.size) for seed in seeds], spec, out)


def render_eval(image_bytes: bytes, spec: EvalViewSpec, out: UInt8 | None = None) -> UInt8:
    """The fixed view for evaluation, as in timm's ``transforms_imagenet_eval``: uint8 [3, S, S], C-contiguous.

    It is rendered natively if possible, and an ordinary JPEG file is decoded natively, too, without what the view does
    not show.

    Args:
        out: the array to fill and return, of that shape; a new one by default.

    Raises:
        BadImageError: the image cannot be decoded, or it or its resized form has more than ``max_pixels``; the content
            of ``out`` is then undefined.
        RendererError: only the reference can render the view, and it is switched off.
        ValueError: ``out`` is not such an array.
    """
    view = output(out, (3, spec.size, spec.size))
    if native.render_eval(image_bytes, spec, view):
        return view
    image, window = decode_for_eval(image_bytes, spec)
    if not native.render_window(image, window, spec, view):
        _require_reference(image)
        _reference_eval(view, image, window, spec)
    return view


def reference_eval(image_bytes: bytes, spec: EvalViewSpec, out: UInt8 | None = None) -> UInt8:
    """The same with Pillow alone."""
    view = output(out, (3, spec.size, spec.size))
    _reference_eval(view, *decode_for_eval(image_bytes, spec), spec)
    return view


def view_digest(view: UInt8) -> int:
    """The low 32 bits of xxh3_64 over the bytes of a C-contiguous view."""
    return xxhash.xxh3_64_intdigest(view.data) & 0xFFFFFFFF


def switch_reference_off() -> None:
    """Refuse, in this process and in those that it starts, what only the reference can render."""
    os.environ[_REFERENCE_SWITCH] = "0"


def _require_reference(image: Image.Image) -> None:
    if os.environ.get(_REFERENCE_SWITCH) == "0":
        raise RendererError(
            "Only Pillow can render this image, and this version of Pillow renders other bytes than Pillow 13",
            found=f"Pillow {pillow_version}, an image of {image.width} x {image.height} pixels",
            fix="install Pillow 13, or lower views.max_pixels: larger images are holes",
        )


def _reference_views(image: Image.Image, params: Sequence[ViewParams], spec: ViewSpec, out: UInt8 | None) -> UInt8:
    views = output(out, (len(params), 3, spec.size, spec.size))
    for view, each in zip(views, params, strict=True):
        _render_into(view, image, each, spec)
    return views


def decode_for_eval(image_bytes: bytes, spec: EvalViewSpec) -> tuple[Image.Image, Window]:
    """The image, and the square that becomes the view, once the image is resized."""
    image = decode(image_bytes, spec.max_pixels)
    window = eval_window(spec, *image.size)
    # A thin image of few pixels can become huge when its short side is enlarged.
    check_pixels(window.width, window.height, spec.max_pixels)
    return image, window


def _reference_eval(view: UInt8, image: Image.Image, window: Window, spec: EvalViewSpec) -> None:
    if image.size != (window.width, window.height):
        image = image.resize((window.width, window.height), RESAMPLING[spec.interpolation])
    _write_planes(view, image.crop((window.left, window.top, window.left + spec.size, window.top + spec.size)))


def _render_into(view: UInt8, image: Image.Image, params: ViewParams, spec: ViewSpec) -> None:
    canvas = _canvas(spec.interpolation, spec.mean)
    left, top, width, height = params.crop
    # Crop before resizing: with resize(box=…), the filter would use pixels outside the crop.
    image = image.crop((left, top, left + width, top + height))
    image = image.resize((spec.size, spec.size), canvas.resample)
    if params.flip:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for operation in params.operations:
        image = apply_operation(image, operation, canvas)
    _write_planes(view, image)
    for box in params.erase:
        erase(view, box, spec)


@lru_cache(maxsize=8)
def _canvas(interpolation: str, mean: tuple[float, float, float]) -> Canvas:
    return Canvas(RESAMPLING[interpolation], mean_colour(mean))


def _write_planes(view: UInt8, image: Image.Image) -> None:
    """Copy an RGB image into ``view``, uint8 [3, S, S]. Band by band, this is twice as fast as a transposed copy."""
    for plane, band in zip(view, "RGB", strict=True):
        plane[:] = np.frombuffer(image.tobytes("raw", band), np.uint8).reshape(plane.shape)
