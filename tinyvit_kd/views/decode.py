"""From a file's bytes to an RGB image, or to the reason why there is none."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError

from tinyvit_kd.errors import BadImageError, ImageTooLargeError, TruncatedImageError, WorkerError
from tinyvit_kd.runtime.foreign_errors import first_line_of, is_out_of_memory, is_truncated_image

# Pillow would else try every reader that it has, one of which starts Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF", "AVIF", "JPEG2000", "QOI", "ICO")
_TGA_HEADER = struct.Struct("<x2B9x2H2B")  # colour map, kind, width, height, bits per pixel, flags


def decode(image_bytes: bytes, max_pixels: int) -> Image.Image:
    """The first frame in RGB, its EXIF orientation ignored, as timm's ``Image.open(…).convert("RGB")``.

    Whatever this process has set, truncated files are refused and warnings are silent; since both settings
    are restored after the call, decode in one thread a process. Pillow's own limit, twice
    ``Image.MAX_IMAGE_PIXELS``, stands beside ``max_pixels``.

    Raises:
        BadImageError: the file is unreadable, truncated, or has more than ``max_pixels``.
        WorkerError: the memory does not suffice.
    """
    try:
        with _strict_pillow(_own_limit(image_bytes, max_pixels)), BytesIO(image_bytes) as file:
            image = Image.open(file, formats=_readers(image_bytes))
            check_pixels(*image.size, max_pixels)
            image.load()
            # convert() would copy an image that is RGB already.
            return image if image.mode == "RGB" else image.convert("RGB")
    except BadImageError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise _short_of_memory(error) from None
        # Broken files make Pillow raise nearly anything: OSError, ValueError, KeyError, …
        raise _bad_image(error, image_bytes) from error


def check_pixels(width: int, height: int, max_pixels: int) -> None:
    """Refuse an image before memory is given to its pixels.

    Raises:
        BadImageError: ``width * height`` is above ``max_pixels``.
    """
    if width * height > max_pixels:
        raise ImageTooLargeError(f"the image has {width} x {height} pixels, more than max_pixels ({max_pixels})")


def _short_of_memory(error: Exception) -> WorkerError:
    # Says nothing of the image: it must not become a hole for it.
    return WorkerError(
        "there is not enough memory to decode an image",
        found=first_line_of(error),
        fix="lower runtime.workers or views.max_pixels, then run the same command again: it continues where it stopped",
    )


def _readers(image_bytes: bytes) -> tuple[str, ...]:
    """The formats to try: those that this Pillow has; TGA, which has no mark, where the header can be no other's."""
    known = _known_readers()
    return (*known, "TGA") if _is_tga(image_bytes) and "TGA" in Image.OPEN else known


@cache
def _known_readers() -> tuple[str, ...]:
    Image.init()  # until then, Pillow knows the commonest ones
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def _is_tga(image_bytes: bytes) -> bool:
    """Whether a header makes sense in all of its fields, and the file is long enough for what it says."""
    if len(image_bytes) <= _TGA_HEADER.size:
        return False
    colour_map, kind, width, height, bits, flags = _TGA_HEADER.unpack_from(image_bytes)
    kinds = {1: (8,), 2: (16, 24, 32), 3: (1, 8, 16)}  # with a colour map, with colours, grey
    sensible = bits in kinds.get(kind & ~8, ()) and colour_map == (kind & ~8 == 1) and not flags & 0xC0
    packed = bool(kind & 8)
    return sensible and width * height > 0 and (packed or len(image_bytes) > width * height * bits // 8)


def _own_limit(image_bytes: bytes, max_pixels: int) -> float | None:
    """Pillow's own limit for this file; None: there is none.

    Of an icon, Pillow reads the pixels while it opens it, and says the size afterwards.
    """
    if not image_bytes.startswith(b"\0\0\1\0"):
        return Image.MAX_IMAGE_PIXELS
    return min(Image.MAX_IMAGE_PIXELS or max_pixels, max_pixels / 2)  # it raises at twice as many


@contextmanager
def _strict_pillow(limit: float | None) -> Iterator[None]:
    tolerant, most = ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    Image.MAX_IMAGE_PIXELS = limit  # type: ignore[assignment]  # it is only multiplied and compared
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS = tolerant, most


def _bad_image(error: Exception, image_bytes: bytes) -> BadImageError:
    if isinstance(error, Image.DecompressionBombError):
        return ImageTooLargeError(f"the image is larger than Pillow opens: {error}")
    if isinstance(error, UnidentifiedImageError):
        if other := _other_format(image_bytes):
            return BadImageError(f"the file is {other}, which this Pillow does not open: convert it to JPEG or PNG")
        # Pillow's message holds a memory address, which differs from run to run.
        return BadImageError(f"the file is not an image of a known format ({', '.join(_FORMATS)})")
    if is_truncated_image(error):
        return TruncatedImageError(f"the image is cut short: {error}")
    return BadImageError(f"the image cannot be decoded: {type(error).__name__}: {error}")


def _other_format(image_bytes: bytes) -> str:
    """The name of a format that is an image's, or often stands where one is expected; empty if it is none."""
    if image_bytes[4:8] == b"ftyp":
        return "AVIF" if image_bytes[8:12] in (b"avif", b"avis") else "HEIC or a film"
    if image_bytes.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
        return "JPEG XL"
    return ""
