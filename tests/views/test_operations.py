"""Every operation equals timm's function byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from timm.data.auto_augment import LEVEL_TO_ARG, NAME_TO_OP

from tests.views.images import sample_image
from tests.views.recording import as_operation
from tinyvit_kd.views.operations import RESAMPLING, Canvas, apply_operation, mean_colour
from tinyvit_kd.views.params import Operation
from tinyvit_kd.views.randaugment_levels import OPERATION_OF

FILL = (124, 116, 104)
IMAGES = [sample_image(64, 64), sample_image(37, 37, seed=1), Image.new("RGB", (16, 16), (200, 3, 90))]


@pytest.mark.usefixtures("seeded")
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("name", OPERATION_OF)
def test_operation_equals_timms_at_every_magnitude(name: str, interpolation: str) -> None:
    canvas = Canvas(RESAMPLING[interpolation], FILL)
    for number, magnitude in enumerate(np.linspace(0, 15, 61).tolist()):
        image = IMAGES[number % len(IMAGES)]
        level = LEVEL_TO_ARG[name]
        arguments = level(magnitude, {}) if level else ()
        operation = as_operation(name, arguments)
        if operation.name == "Posterize" and operation.value <= 0:
            continue
        theirs = NAME_TO_OP[name](image, *arguments, fillcolor=FILL, resample=canvas.resample)
        assert apply_operation(image, operation, canvas).tobytes() == theirs.tobytes(), operation


@pytest.mark.parametrize("bits", [0, -4])
def test_posterize_that_keeps_no_bits_is_black(bits: int) -> None:
    canvas = Canvas(Image.Resampling.BICUBIC, FILL)
    posterized = apply_operation(IMAGES[0], Operation("Posterize", bits), canvas)
    assert posterized.getextrema() == ((0, 0), (0, 0), (0, 0))


def test_fill_is_timms_mean_colour() -> None:
    assert mean_colour((0.485, 0.456, 0.406)) == FILL
    assert mean_colour((0.5, 1.0, 0.0)) == (128, 255, 0)
