"""Encodes large photos anew at a smaller size, once, before they are packed."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import PIL
from PIL import Image

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.views.decode import decode

_ORIENTATION = 0x0112  # tag of EXIF
_MAX_PIXELS = ViewSpec().max_pixels
_COLOUR_SPACE = slice(16, 20)  # of an ICC profile's header (ICC.1:2022, 7.2)


@dataclass(frozen=True)
class Smaller:
    """Makes JPEG files of images whose shorter side is too long.

    Pixels stay as they are turned in the file: views ignore the EXIF orientation, so it is kept and not applied. The
    ICC profile is kept where it still fits, other metadata is not.

    Attributes:
        side: the shorter side afterwards, pixels; images that are no larger are left alone.
        quality: of the JPEG files, as libjpeg counts, 1 to 95.
    """

    side: int
    quality: int

    @property
    def facts(self) -> Mapping[str, Any]:
        """All that the bytes depend on, besides the image: libjpeg comes with Pillow."""
        return {"side": self.side, "quality": self.quality, "pillow": PIL.__version__}

    def __call__(self, image: bytes, /) -> bytes | None:
        """The smaller file; None: the image is not too large, or cannot be decoded.

        Raises:
            WorkerError: the memory does not suffice.
        """
        if not self._may_be_large(image):
            return None
        try:
            pixels = decode(image, _MAX_PIXELS)
        except BadImageError:
            return None  # it will be a hole, which says why
        shorter = min(pixels.size)
        if shorter <= self.side:
            return None
        width, height = (max(self.side, round(length * self.side / shorter)) for length in pixels.size)
        kept = _kept(pixels)
        file = BytesIO()
        pixels.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=self.quality, **kept)
        return file.getvalue()

    def _may_be_large(self, image: bytes) -> bool:
        """Whether the header says a size that is too large, or none that can be read without decoding."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with Image.open(BytesIO(image)) as opened:
                    return min(opened.size) > self.side
        except Exception:  # broken files make Pillow raise nearly anything; decode() then says what it is
            return True


def _kept(pixels: Image.Image) -> dict[str, bytes]:
    """What of an image's metadata is kept: how it is to be turned, and its colours' profile."""
    kept = {}
    profile = pixels.info.get("icc_profile")
    if isinstance(profile, bytes) and profile[_COLOUR_SPACE] == b"RGB ":
        kept["icc_profile"] = profile
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            orientation = pixels.getexif().get(_ORIENTATION)
    except Exception:  # of damaged EXIF
        orientation = None
    if isinstance(orientation, int) and 1 < orientation <= 8:
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        kept["exif"] = exif.tobytes()
    return kept
