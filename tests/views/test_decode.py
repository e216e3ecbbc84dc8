"""Any bytes become an RGB image or a reason why not."""

from __future__ import annotations

import re
import struct
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFile, features

from tests.views.images import encoded, sample_image
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.errors import BadImageError, ImageTooLargeError, TruncatedImageError
from tinyvit_kd.views.decode import decode
from tinyvit_kd.views.render import render_views

LIMIT = 89_478_485
Image.init()  # fills Image.SAVE
OTHER_KINDS = [
    *("PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF", "ICO", "TGA"),
    *(("QOI",) if "QOI" in Image.SAVE else ()),  # Pillow writes it from 12.0 on
    *(("AVIF",) if features.check("avif") else ()),
    *(("JPEG2000",) if features.check("jpg_2000") else ()),
]
JPEG = encoded(sample_image(48, 40), "JPEG")
PNG = encoded(sample_image(48, 40))
# The table says that strict Pillow decodes these, but Pillow 13.0.0 raises OSError: "Truncated File Read" and
# "unrecognized data stream contents". They are compared with Pillow itself below.
MISREPORTED = ("truncated_end_chunk.png", "broken_data_stream.png")


def of_kind(kind: str) -> bytes:
    options = {"sizes": [(48, 40)]} if kind == "ICO" else {}
    return encoded(sample_image(48, 40), kind, **options)


@pytest.fixture
def tolerant_pillow() -> Iterator[None]:
    """A process in which someone has told Pillow to fill up truncated files, and warnings are errors."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    ImageFile.LOAD_TRUNCATED_IMAGES = before


def strict_results(folder: Path) -> dict[str, bool]:
    """Which of the odd images Pillow decodes, from the table beside them."""
    lines = (folder / "README.md").read_text().splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ")]
    expected = {row[0].removeprefix("| "): row[4].strip() == "ok" for row in rows[1:]}
    return {name: ok for name, ok in expected.items() if name not in MISREPORTED}


def pillow_result(path: Path) -> bytes | None:
    """What Pillow itself makes of a file, as timm opens it; None where it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                return image.convert("RGB").tobytes()
        except Exception:
            return None


def outcome(image_bytes: bytes, max_pixels: int = LIMIT) -> type[BadImageError] | bytes:
    try:
        return decode(image_bytes, max_pixels).tobytes()
    except BadImageError as error:
        return type(error)


@pytest.mark.usefixtures("tolerant_pillow")
def test_odd_images_decode_exactly_where_strict_pillow_does(shared_data: Path) -> None:
    folder = shared_data / "odd_images"
    expected = strict_results(folder)
    assert len(expected) > 200
    first = {name: outcome((folder / name).read_bytes()) for name in expected}
    assert {name: isinstance(found, bytes) for name, found in first.items()} == expected
    assert all(outcome((folder / name).read_bytes()) == found for name, found in first.items())
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_odd_images_decode_as_pillow_converts_them(shared_data: Path) -> None:
    folder = shared_data / "odd_images"
    for name in (*strict_results(folder), *MISREPORTED):
        found = outcome((folder / name).read_bytes())
        assert pillow_result(folder / name) == (found if isinstance(found, bytes) else None), name


def test_odd_images_become_views_or_holes(shared_data: Path) -> None:
    folder = shared_data / "odd_images"
    spec = ViewSpec(size=32)
    for name, ok in strict_results(folder).items():
        try:
            views = render_views((folder / name).read_bytes(), (1, 2), spec)
        except BadImageError:
            assert not ok, name
        else:
            assert ok, name
            assert views.shape == (2, 3, 32, 32)


@pytest.mark.parametrize(
    ("image_bytes", "reason"),
    [
        (b"", BadImageError),
        (b"\xff\xd8\xff", BadImageError),
        (b"no image", BadImageError),
        (JPEG[: len(JPEG) * 2 // 3], TruncatedImageError),
        (PNG[: len(PNG) // 2], TruncatedImageError),
    ],
    ids=["empty", "three bytes", "text", "half a JPEG", "half a PNG"],
)
def test_reason_of_a_hole(image_bytes: bytes, reason: type[BadImageError]) -> None:
    assert outcome(image_bytes) == reason


def test_pixel_limit_is_checked_before_pixels_are_read() -> None:
    assert outcome(JPEG, 48 * 40) == outcome(JPEG)
    assert outcome(JPEG, 48 * 40 - 1) == ImageTooLargeError
    # A header that promises 65,500 x 65,500 pixels.
    height = JPEG.index(b"\xff\xc0") + 5
    bomb = JPEG[:height] + b"\xff\xdc\xff\xdc" + JPEG[height + 4 :]
    assert outcome(bomb) == ImageTooLargeError
    assert outcome(bomb, 10**12) == ImageTooLargeError


def test_messages_are_the_same_every_time() -> None:
    messages = []
    for _ in range(2):
        with pytest.raises(BadImageError) as caught:
            decode(b"no image", LIMIT)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    assert not re.search("0x[0-9a-f]+", messages[0])


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_other_kinds_than_jpeg_are_read_as_pillow_reads_them(kind: str) -> None:
    file = of_kind(kind)
    image = decode(file, LIMIT)
    assert (image.mode, image.size) == ("RGB", (48, 40))
    with Image.open(BytesIO(file)) as expected:
        assert image.tobytes() == expected.convert("RGB").tobytes()


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_the_pixel_limit_holds_for_each_kind(kind: str) -> None:
    file = of_kind(kind)
    assert isinstance(outcome(file, 48 * 40), bytes)
    assert outcome(file, 48 * 40 - 1) == ImageTooLargeError


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_half_a_file_of_any_kind_is_a_hole(kind: str) -> None:
    file = of_kind(kind)
    with pytest.raises(BadImageError):
        decode(file[: len(file) // 2], LIMIT)


@pytest.mark.parametrize(
    ("mode", "compression"),
    [("1", None), *((mode, how) for mode in ("L", "LA", "P", "RGB", "RGBA") for how in (None, "tga_rle"))],
)
def test_tga_is_read_in_all_its_modes(mode: str, compression: str | None) -> None:
    file = encoded(sample_image(48, 40).convert(mode), "TGA", compression=compression)
    with Image.open(BytesIO(file)) as expected:
        assert outcome(file) == expected.convert("RGB").tobytes()


def test_an_icon_that_is_larger_than_it_says_is_refused_before_its_pixels_are_read() -> None:
    largest = encoded(Image.new("1", (3000, 3000)), "PNG")
    entry = bytes([16, 16, 0, 0, 1, 0, 32, 0]) + struct.pack("<II", len(largest), 22)
    icon = b"\0\0\1\0\1\0" + entry + largest
    before = Image.MAX_IMAGE_PIXELS
    assert outcome(icon, 3000 * 3000 - 1) == ImageTooLargeError
    assert outcome(icon, 3000 * 3000) == bytes(3 * 3000 * 3000)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\xff\x0a", "JPEG XL"),
    ],
)
def test_a_hole_names_the_format_that_pillow_cannot_open_and_what_to_do(head: bytes, name: str) -> None:
    with pytest.raises(BadImageError, match=f"{name}.*convert it to JPEG or PNG"):
        decode(head + bytes(100), LIMIT)


def test_postscript_is_not_run() -> None:
    assert outcome(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n") == BadImageError


@given(st.integers(0, len(JPEG) - 1), st.binary(min_size=1, max_size=8), st.sampled_from([JPEG, PNG]))
def test_damaged_files_are_images_or_holes_and_always_the_same(place: int, change: bytes, file: bytes) -> None:
    damaged = file[:place] + change + file[place + len(change) :]
    first = outcome(damaged, 10**6)
    assert first == outcome(damaged, 10**6)
    assert isinstance(first, bytes | type)


def test_orientation_is_ignored() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = BytesIO()
    sample_image(48, 40).save(file, "JPEG", exif=exif)
    assert decode(file.getvalue(), LIMIT).size == (48, 40)
    np.testing.assert_array_equal(np.asarray(decode(file.getvalue(), LIMIT)), np.asarray(decode(JPEG, LIMIT)))
