"""Images are known by their first bytes; what is not an image is not taken for one."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, features

from tinyvit_kd.data.image_formats import HEAD_BYTES, IMAGE_SUFFIXES, image_format

Image.init()  # fills Image.SAVE
WRITTEN_BY_PILLOW = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "GIF": "gif",
    "WEBP": "webp",
    "BMP": "bmp",
    "TIFF": "tif",
    "PPM": "ppm",
    "AVIF": "avif",
    "JPEG2000": "jp2",
    **({"QOI": "qoi"} if "QOI" in Image.SAVE else {}),  # Pillow writes it from 12.0 on
    "ICO": "ico",
}
NOT_IMAGES = {
    "nothing": b"",
    "text": b"BMW, Ford and others",
    "a page": b"<!DOCTYPE html><html>",
    "a film": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
    "an MPEG stream": b"\0\0\1\xba\x44\0\4\0\4\1",
    "a document": b"%PDF-1.7",
    "a zip": b"PK\3\4\x14\0\0\0\x08\0",
    "zeros": bytes(HEAD_BYTES),
    "a name": b"P51 Mustang",
}
HEIF_BOXES = {
    "avif by its main brand": (b"avif", [b"mif1", b"miaf"], "avif"),
    "avif by another brand": (b"mif1", [b"avif", b"miaf"], "avif"),
    "heic by its main brand": (b"heic", [b"mif1", b"heic"], "heic"),
    "heic by another brand": (b"mif1", [b"mif1", b"heic"], "heic"),
    "a burst": (b"msf1", [b"hevc"], "heic"),
    "a film": (b"isom", [b"iso2", b"avc1", b"mp41"], None),
}


@pytest.mark.parametrize(("kind", "suffix"), WRITTEN_BY_PILLOW.items(), ids=WRITTEN_BY_PILLOW)
def test_what_pillow_writes_is_known_by_its_bytes(kind: str, suffix: str) -> None:
    if (kind == "AVIF" and not features.check("avif")) or (kind == "JPEG2000" and not features.check("jpg_2000")):
        pytest.skip(f"this Pillow cannot write {kind}")
    file = BytesIO()
    Image.linear_gradient("L").convert("RGB").save(file, kind)
    assert image_format(file.getvalue()[:HEAD_BYTES]) == suffix
    assert suffix in IMAGE_SUFFIXES


def test_tga_is_known_by_its_suffix_alone() -> None:
    file = BytesIO()
    Image.linear_gradient("L").save(file, "TGA")
    assert image_format(file.getvalue()[:HEAD_BYTES]) is None
    assert "tga" in IMAGE_SUFFIXES


@pytest.mark.parametrize("head", NOT_IMAGES.values(), ids=NOT_IMAGES)
def test_what_is_not_an_image_is_not_taken_for_one(head: bytes) -> None:
    assert image_format(head) is None


@pytest.mark.parametrize(("main", "others", "suffix"), HEIF_BOXES.values(), ids=HEIF_BOXES)
def test_images_and_films_in_the_same_box_are_told_apart(main: bytes, others: list[bytes], suffix: str | None) -> None:
    size = 16 + 4 * len(others)
    head = size.to_bytes(4, "big") + b"ftyp" + main + bytes(4) + b"".join(others) + b"\0\0\1\0meta" + b"avif"
    assert image_format(head[:HEAD_BYTES]) == suffix


def test_the_preference_among_several_images_of_a_sample_is_what_it_was() -> None:
    first = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "ppm", "pgm", "pbm", "tif", "tiff")
    assert IMAGE_SUFFIXES[: len(first)] == first
    assert len(set(IMAGE_SUFFIXES)) == len(IMAGE_SUFFIXES)


def test_odd_images_are_known_wherever_pillow_knows_them(shared_data: Path) -> None:
    for path in sorted((shared_data / "odd_images").glob("*.*")):
        content = path.read_bytes()
        try:
            with Image.open(BytesIO(content)) as image:
                kind = image.format or ""
        except Exception:
            continue
        assert image_format(content[:HEAD_BYTES]) == WRITTEN_BY_PILLOW[kind], path.name
