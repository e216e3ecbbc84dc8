"""A check at start-up that this machine renders views to the bytes that define them.

A view's bytes depend on Pillow, libjpeg-turbo and the processor; Pillow 13, for example, changed the order of the two
passes of ``resize``. Rendering tiny fixed images takes a few milliseconds and shows a difference before anything is
dumped or trained.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL import __version__ as pillow_version

from tinyvit_kd.config.view_spec import EvalViewSpec, ViewSpec
from tinyvit_kd.errors import RendererError
from tinyvit_kd.views import native
from tinyvit_kd.views.mixing import Mix, mix_views, reference_mix
from tinyvit_kd.views.params import Operation, ViewParams
from tinyvit_kd.views.render import (
    decode_for_eval,
    reference_eval,
    reference_views,
    render,
    switch_reference_off,
    view_digest,
)
from tinyvit_kd.views.spec_hash import RENDERER_VERSION, renderer_versions

UInt8 = npt.NDArray[np.uint8]

# 56 x 40 pixels, 4:2:0, quality 40. Stored as a file because encoders differ, too.
_JPEG = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABQODxIPDRQSEBIXFRQYHjIhHhwcHj0sLiQySUBMS0dARkVQWnNiUFVtVkVGZIhlbXd7"
    "gYKBTmCNl4x9lnN+gXz/2wBDARUXFx4aHjshITt8U0ZTfHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8fHx8"
    "fHx8fHx8fHz/wAARCAAoADgDASIAAhEBAxEB/8QAGAAAAwEBAAAAAAAAAAAAAAAAAAMEAgb/xAAmEAABAwMDBAMBAQAAAAAAAAAB"
    "AAIhAxExEhNBBCJhcTNRgTKR/8QAFwEBAQEBAAAAAAAAAAAAAAAABAMGAf/EACkRAAIBAwMCBAcAAAAAAAAAAAECAAMRQRIhMQRR"
    "EzJSgSIjQnGRwdH/2gAMAwEAAhEDEQA/AOYb05abm0SmhoeNIElPax5Mg25hNFJoF2ZTg4AOjYZvz7SaP3kzKO2bn1CZtbmOPtUM"
    "pknvx5hM2rfH+2lTLjRYeXtmNR5Oxm2LEeYWxQLzqGCqWUgR358wtim4GzBHpTZxpAby4GfeMR4hoDRYgxCFY2iw5tfmULviVsMI"
    "kOLSRo1RbMJjaGjuzZUhjCIAvxC02k4G78KTVLm7HUe44H3mRR5O1m5FrcpjaW15uqdsEdmfELbKVvk/Lypmpve+/qx/IxHk7aO5"
    "OOExrdHba9lRtEnsx4hNZTaBZ47vSn4ljcGx9WD+oxHkzen1TfM4QqxRecXtxKFEsmaZP5iw+3MmHThsi8SttaXnSRBQhUrfLqKi"
    "7A8zI0ySIzZ2xcepTGUtz+uPpCFNtqwpfT2jUJteb29s2A8ymsoB41HJQhTX4qppngYjEJteDyaTHEAHQCf8QhCOlVySLw3W9RUp"
    "FQhtP//Z"
)

_OPERATIONS = (
    Operation("AutoContrast", 0),
    Operation("Equalize", 0),
    Operation("Invert", 0),
    Operation("Rotate", -27.3),
    Operation("ShearX", 0.27),
    Operation("ShearY", -0.21),
    Operation("TranslateX", 0.405),
    Operation("TranslateY", -0.3),
    Operation("Posterize", 1),
    Operation("Posterize", 0),
    Operation("Solarize", 26),
    Operation("SolarizeAdd", 99),
    Operation("Color", 1.81),
    Operation("Contrast", 0.19),
    Operation("Brightness", 1.81),
    Operation("Sharpness", 0.19),
    Operation("GaussianBlur", 1.7),
)

_EVALUATIONS = {
    "evaluation": EvalViewSpec(size=32),
    "squashed evaluation": EvalViewSpec(size=24, mode="squash", interpolation="bilinear"),
}

_MIXES = {"Mixup": Mix(23_457), "CutMix": Mix(43_691, (5, 9, 36, 48))}

_EXPECTED: Mapping[str, int] = {
    "view of seed 4": 0x82CCBB73,
    "view of seed 5": 0xB64EADB6,
    "view of seed 6": 0xB9BCE5AA,
    "view of seed 7": 0xD6EA2928,
    "evaluation": 0x1E203450,
    "squashed evaluation": 0x57FC14FE,
    "Mixup": 0x802220FB,
    "CutMix": 0x25D784C9,
    "resize 90x40": 0x429375B4,
    "resize 40x90": 0x9318E829,
    "resize 20x20": 0x24F0748C,
    "AutoContrast 0": 0x260563F3,
    "Equalize 0": 0x7F3EC8F9,
    "Invert 0": 0x04C8EAB8,
    "Rotate -27.3": 0xD832A0AF,
    "ShearX 0.27": 0x409CCEBF,
    "ShearY -0.21": 0x05575470,
    "TranslateX 0.405": 0xA7DC3AA2,
    "TranslateY -0.3": 0x6E377F3D,
    "Posterize 1": 0x0717DD8E,
    "Posterize 0": 0x0C213DB1,
    "Solarize 26": 0x78384FC3,
    "SolarizeAdd 99": 0x38E00192,
    "Color 1.81": 0x717E2088,
    "Contrast 0.19": 0x9D34C1D1,
    "Brightness 1.81": 0x7843EE0D,
    "Sharpness 0.19": 0xA8E54AFA,
    "GaussianBlur 1.7": 0x09F85BFE,
}


def check_renderers(expected: Mapping[str, int] = _EXPECTED) -> str:
    """Render a few fixed views with both renderers, and switch off the one whose bytes are not the expected ones.

    Returns:
        A line that says what renders views.

    Raises:
        RendererError: neither makes them, so this machine would not render the same views as others.
    """
    line = check_native(expected)
    differing = reference_differences(expected)
    if not differing:
        return line
    if not native.is_on():
        raise RendererError(
            "This machine does not render the same views as other machines",
            where=", ".join(f"{library} {version}" for library, version in renderer_versions().items()),
            found=f"other bytes for {', '.join(differing)}; {line}",
            expected=f"the bytes of renderer version {RENDERER_VERSION}, defined with Pillow 13.0.0",
            fix="install Pillow 13.0.0 from PyPI's wheels (pip install --only-binary :all: Pillow==13.0.0), or install "
            "this package where a C compiler and libjpeg-turbo are, so that the native renderer is built",
        )
    switch_reference_off()
    return f"{native.describe()} (Pillow {pillow_version} resizes otherwise than Pillow 13, and renders nothing)"


def check_native(expected: Mapping[str, int] = _EXPECTED) -> str:
    """Check the native renderer and switch it off if its bytes differ; returns a line that says what renders views."""
    if not native.is_on():
        return native.describe()
    differing = [name for name, digest in native_digests().items() if digest != expected[name]]
    if not differing:
        return native.describe()
    native.switch_off()
    names = ", ".join(differing)
    return f"views are rendered by Pillow: on this machine the native renderer makes other bytes for {names}"


def reference_differences(expected: Mapping[str, int] = _EXPECTED) -> list[str]:
    """Names of the fixed views of which the reference renderer, with this Pillow, makes other bytes."""
    return [name for name, digest in fixed_digests().items() if digest != expected[name]]


def fixed_digests() -> dict[str, int]:
    """Digest of every fixed view, by the name of what it tests."""
    digests = _digests(reference_views, render, reference_mix)
    return digests | {name: view_digest(reference_eval(_jpeg(), spec)) for name, spec in _EVALUATIONS.items()}


def native_digests() -> dict[str, int]:
    """The same from the native renderer; black views or 0 where it cannot render one."""
    digests = _digests(native.render_views, native.render_image, mix_views)
    return digests | {name: _native_evaluation(spec) for name, spec in _EVALUATIONS.items()}


def _native_evaluation(spec: EvalViewSpec) -> int:
    """Digest of an evaluation view that is the same from the file and from its pixels; else 0."""
    of_file, of_pixels = np.zeros((2, 3, spec.size, spec.size), np.uint8)
    image, window = decode_for_eval(_jpeg(), spec)
    made = native.render_eval(_jpeg(), spec, of_file) and native.render_window(image, window, spec, of_pixels)
    return view_digest(of_file) if made and np.array_equal(of_file, of_pixels) else 0


def _jpeg() -> bytes:
    return b64decode(_JPEG)


def _digests(
    render_jpeg: Callable[[bytes, Sequence[int], ViewSpec], UInt8 | None],
    render_image: Callable[[Image.Image, ViewParams, ViewSpec], UInt8 | None],
    mix: Callable[[UInt8, UInt8, Mix], UInt8],
) -> dict[str, int]:
    def digest(width: int, height: int, *operations: Operation) -> int:
        """Digest of the arithmetic image, uncropped, resized to 32 x 32 and after the operations."""
        params = ViewParams(crop=(0, 0, width, height), flip=False, operations=operations, erase=())
        view = render_image(_arithmetic_image(width, height), params, ViewSpec(size=32))
        return 0 if view is None else view_digest(view)

    views = render_jpeg(_jpeg(), range(4, 8), ViewSpec(size=48, erase_prob=0.5))
    if views is None:
        views = np.zeros((4, 3, 48, 48), np.uint8)
    digests = {f"view of seed {seed}": view_digest(view) for seed, view in enumerate(views, 4)}
    digests |= {name: view_digest(mix(views[0], views[1], each)) for name, each in _MIXES.items()}
    for width, height in ((90, 40), (40, 90), (20, 20)):
        digests[f"resize {width}x{height}"] = digest(width, height)
    return digests | {f"{each.name} {each.value:g}": digest(32, 32, each) for each in _OPERATIONS}


def _arithmetic_image(width: int, height: int) -> Image.Image:
    """An image that is smooth in red, noisy in green and blocky in blue."""
    y, x = np.mgrid[:height, :width]
    channels = (x * 3 + y * 2, (x * x * 7 + x * y * 13 + y * y * 5) // 3, (x // 7 + y // 5) % 2 * 180 + 30)
    return Image.fromarray(np.stack(channels, axis=-1).astype(np.uint8))
