"""Large photos become smaller JPEG files once; all else keeps its bytes, and nothing is turned."""

from __future__ import annotations

import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tinyvit_kd.views.smaller import Smaller

SIDE = 32
ORIENTATION = 0x0112
RGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
smaller = Smaller(SIDE, 90)


def encoded(width: int, height: int, kind: str = "JPEG", mode: str = "RGB", **options: object) -> bytes:
    """A gradient from dark on the left to light on the right."""
    row = np.linspace(0, 255, width, dtype=np.uint8)
    file = BytesIO()
    Image.fromarray(np.tile(row, (height, 1))).convert(mode).save(file, kind, **options)
    return file.getvalue()


def opened(content: bytes | None) -> Image.Image:
    assert content is not None
    image = Image.open(BytesIO(content))
    image.load()
    return image


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param((96, 64), (48, 32), id="wide"),
        pytest.param((64, 99), (32, 50), id="high"),
        pytest.param((33, 33), (32, 32), id="by-a-pixel"),
        pytest.param((3200, 33), (3103, 32), id="a-strip"),
    ],
)
def test_the_shorter_side_becomes_the_given_one(size: tuple[int, int], expected: tuple[int, int]) -> None:
    image = opened(smaller(encoded(*size)))
    assert (image.size, image.format, image.mode) == (expected, "JPEG", "RGB")


@pytest.mark.parametrize("size", [(32, 96), (96, 32), (8, 8)])
def test_images_that_are_no_larger_are_left_alone(size: tuple[int, int]) -> None:
    assert smaller(encoded(*size)) is None


@pytest.mark.parametrize("content", [b"", b"text", encoded(96, 64)[:-200]], ids=["empty", "text", "cut"])
def test_what_cannot_be_decoded_is_left_alone(content: bytes) -> None:
    assert smaller(content) is None


def test_the_orientation_is_kept_and_not_applied() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "a camera"
    image = opened(smaller(encoded(96, 64, exif=exif)))
    assert image.size == (48, 32)
    assert dict(image.getexif()) == {ORIENTATION: 6}
    pixels = np.asarray(image)
    assert pixels[:, 0].mean() < 20 < 235 < pixels[:, -1].mean()
    assert not dict(opened(smaller(encoded(96, 64))).getexif())


def test_a_colour_profile_is_kept_where_it_fits() -> None:
    assert opened(smaller(encoded(96, 64, icc_profile=RGB_PROFILE))).info["icc_profile"] == RGB_PROFILE
    of_cmyk = RGB_PROFILE[:16] + b"CMYK" + RGB_PROFILE[20:]
    assert "icc_profile" not in opened(smaller(encoded(96, 64, mode="CMYK", icc_profile=of_cmyk))).info


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "RGBA"), ("PNG", "P"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "L")])
def test_other_formats_become_jpeg(kind: str, mode: str) -> None:
    image = opened(smaller(encoded(96, 64, kind, mode)))
    assert (image.format, image.size) == ("JPEG", (48, 32))


def test_the_bytes_are_the_same_in_another_process() -> None:
    content = encoded(96, 64)
    assert pickle.loads(pickle.dumps(smaller))(content) == smaller(content)
    assert len(Smaller(SIDE, 30)(content) or b"") < len(smaller(content) or b"")


def test_odd_images_are_made_smaller_or_left_alone(shared_data: Path) -> None:
    paths = sorted((shared_data / "odd_images").iterdir())
    results = [Smaller(16, 80)(path.read_bytes()) for path in paths]
    assert sum(result is not None for result in results) > 20
    for result in results:
        assert result is None or min(opened(result).size) == 16
