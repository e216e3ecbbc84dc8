"""From a file's bytes to an RGB image, or to the reason why there is none."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError

from tinyvit_kd.errors import BadImageError, ImageTooLargeError, TruncatedImageError, WorkerError
from tinyvit_kd.runtime.foreign_errors import first_line_of, is_out_of_memory, is_truncated_image

# Pillow would else try every reader that it has, one of which starts Ghostscript.
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "TIFF")


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
        with _strict_pillow(), BytesIO(image_bytes) as file:
            image = Image.open(file, formats=_FORMATS)
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
        raise _bad_image(error) from error


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


@contextmanager
def _strict_pillow() -> Iterator[None]:
    tolerant = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = tolerant


def _bad_image(error: Exception) -> BadImageError:
    if isinstance(error, Image.DecompressionBombError):
        return ImageTooLargeError(f"the image is larger than Pillow opens: {error}")
    if isinstance(error, UnidentifiedImageError):
        # Pillow's message holds a memory address, which differs from run to run.
        return BadImageError(f"the file is not an image of a known format ({', '.join(_FORMATS)})")
    if is_truncated_image(error):
        return TruncatedImageError(f"the image is cut short: {error}")
    return BadImageError(f"the image cannot be decoded: {type(error).__name__}: {error}")
