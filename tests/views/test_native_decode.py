"""Each native decoder gives the same pixels for part of a JPEG image as Pillow gives for the whole."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.native_equality import PROCESSORS
from benchmarks.photos import encodings, load
from tests.views.conftest import NEEDS_NATIVE
from tests.views.images import encoded, sample_image
from tinyvit_kd.views import native

pytestmark = NEEDS_NATIVE

DECODERS = (*PROCESSORS, "libjpeg")
OPTIONS: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": "4:4:4"},
    "4:2:2": {"subsampling": "4:2:2"},
    "4:2:0": {"subsampling": "4:2:0"},
    "coarse": {"quality": 3},
    "fine": {"quality": 100, "optimize": True},
    "restarts in a row": {"restart_marker_blocks": 3},
    "restarts at rows": {"restart_marker_rows": 2},
}


@pytest.fixture(params=DECODERS)
def decoder(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name != "libjpeg" and not native.supports(name):
        pytest.skip(f"this machine, or this build, has no {name}")
    return name


def require_equal(file: bytes, box: tuple[int, int, int, int], decoder: str) -> None:
    """``box``: left, top, width, height."""
    found = native.module().decode(file, box, decoder)
    assert found is not None
    left, top, width, height = found[:4]
    planes = [np.frombuffer(plane, np.uint8).reshape(height, width) for plane in found[4:]]
    y, x = slice(box[1] - top, box[1] - top + box[3]), slice(box[0] - left, box[0] - left + box[2])
    image = Image.open(BytesIO(file)).convert("RGB").crop((box[0], box[1], box[0] + box[2], box[1] + box[3]))
    np.testing.assert_array_equal(np.stack(planes, axis=-1)[y, x], np.asarray(image), err_msg=str(box))


def random_box(width: int, height: int, draw: random.Random) -> tuple[int, int, int, int]:
    box_width, box_height = draw.randint(1, width), draw.randint(1, height)
    return draw.randint(0, width - box_width), draw.randint(0, height - box_height), box_width, box_height


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
def test_images_of_all_small_sizes(name: str, grey: bool, decoder: str) -> None:
    draw = random.Random(name)
    for width, height in [(draw.randint(1, 40), draw.randint(1, 40)) for _ in range(40)] + [
        (1, 1),
        (2, 2),
        (4, 5),
        (17, 3),
    ]:
        image = sample_image(width, height).convert("L" if grey else "RGB")
        options = {key: value for key, value in OPTIONS[name].items() if not (grey and key == "subsampling")}
        file = encoded(image, "JPEG", **options)
        for box in ((0, 0, width, height), random_box(width, height, draw)):
            require_equal(file, box, decoder)


def test_boxes_of_photos(shared_data: Path, decoder: str) -> None:
    draw = random.Random(0)
    for photo in draw.sample(load(shared_data / "photos"), 10):
        for file in (photo, *(kind for kind in encodings(photo) if decoder == "libjpeg" or not is_progressive(kind))):
            width, height, _ = native.module().size(file)
            require_equal(file, random_box(width, height, draw), decoder)


def is_progressive(file: bytes) -> bool:
    with Image.open(BytesIO(file)) as image:
        return bool(image.info.get("progressive"))


def test_wild_coefficients_are_left_to_libjpeg(decoder: str) -> None:
    """Numbers beyond 16 bits wrap around in libjpeg's vector code but not in its plain code."""
    file = bytearray(encoded(sample_image(40, 40), "JPEG", quality=100))
    table = file.index(b"\xff\xdb") + 5
    file[table : table + 64] = b"\xff" * 64
    found = native.module().decode(bytes(file), (0, 0, 40, 40), decoder)
    if found is not None:
        require_equal(bytes(file), (0, 0, 40, 40), decoder)


@pytest.mark.parametrize("box", [(-1, 0, 1, 1), (0, 0, 0, 1), (0, 0, 41, 1), (40, 0, 1, 1), (0, 39, 1, 2)])
def test_boxes_outside_the_image_are_refused(box: tuple[int, int, int, int], decoder: str) -> None:
    assert native.module().decode(encoded(sample_image(40, 40), "JPEG"), box, decoder) is None


@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
def test_a_size_of_more_than_15_bits_in_a_table_refuses_the_file(grey: bool, decoder: str) -> None:
    """libjpeg refuses the table, even if no code of the image uses the entry."""
    image = sample_image(40, 40)
    file = bytearray(encoded(image.convert("L") if grey else image, "JPEG"))
    largest = file.index(b"\xff\xc4") + 2 + 2 + 1 + 16 + 11
    assert file[largest] == 11
    file[largest] = 16
    assert native.module().decode(bytes(file), (0, 0, 40, 40), decoder) is None
