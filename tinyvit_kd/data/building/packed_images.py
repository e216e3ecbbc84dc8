"""Tells samples that no decoder will make an image of, while they are packed, so that holes come as no surprise."""

from __future__ import annotations

from tinyvit_kd.data.building.left_out import Tally
from tinyvit_kd.data.building.source_rules import suffix_of
from tinyvit_kd.data.image_formats import HEAD_BYTES, image_format

MEANINGS = {
    "empty": "empty files",
    "text": "texts with the suffix of an image, as failed downloads leave them",
    "unknown": "files with the suffix of an image, and bytes of no known format",
    "heic": "HEIC, which Pillow cannot open; heif-convert or ImageMagick make JPEG or PNG of it",
    "jxl": "JPEG XL, which Pillow cannot open; djxl or ImageMagick make JPEG or PNG of it",
}


def count_if_odd(name: str, content: bytes, odd: Tally) -> None:
    """Count a sample that will be a hole, as far as its first bytes tell.

    Args:
        name: of the sample, for people.
        content: its bytes.
        odd: counts by the keys of ``MEANINGS``.
    """
    kind = image_format(content[:HEAD_BYTES])
    if kind in ("heic", "jxl"):
        odd.add(kind, name)
    elif kind is None and suffix_of(name) != "tga":  # which has no mark
        odd.add("empty" if not content else "text" if _is_text(content[:HEAD_BYTES]) else "unknown", name)


def _is_text(head: bytes) -> bool:
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "ignore")
    return len(text) > 3 and all(char.isprintable() or char.isspace() for char in text)
