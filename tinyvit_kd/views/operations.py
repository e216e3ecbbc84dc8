"""The operations of RandAugment and colour jitter, byte for byte as in timm and torchvision."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from tinyvit_kd.views.params import Operation

RESAMPLING = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True, slots=True)
class Canvas:
    """How pixels are interpolated, and the colour of pixels from outside the image."""

    resample: Image.Resampling
    fill: tuple[int, int, int]


def mean_colour(mean: tuple[float, float, float]) -> tuple[int, int, int]:
    """The mean as levels 0..255: timm's fill colour for affine operations, and the fill of ``const`` boxes."""
    red, green, blue = (max(0, min(255, round(255 * channel))) for channel in mean)
    return red, green, blue


def apply_operation(image: Image.Image, operation: Operation, canvas: Canvas) -> Image.Image:
    """The RGB image after one operation; see ``Operation`` for names and arguments."""
    value = operation.value
    match operation.name:
        case "AutoContrast":
            return ImageOps.autocontrast(image)
        case "Equalize":
            return ImageOps.equalize(image)
        case "Invert":
            return ImageOps.invert(image)
        case "Rotate":
            return image.rotate(value, resample=canvas.resample, fillcolor=canvas.fill)
        case "ShearX":
            return _affine(image, (1, value, 0, 0, 1, 0), canvas)
        case "ShearY":
            return _affine(image, (1, 0, 0, value, 1, 0), canvas)
        case "TranslateX":
            return _affine(image, (1, 0, value * image.width, 0, 1, 0), canvas)
        case "TranslateY":
            return _affine(image, (1, 0, 0, 0, 1, value * image.height), canvas)
        case "Posterize":
            return _posterize(image, int(value))
        case "Solarize":
            return ImageOps.solarize(image, int(value))
        case "SolarizeAdd":
            return image.point(_solarize_add_table(int(value)))
        case "Color":
            return ImageEnhance.Color(image).enhance(value)
        case "Contrast":
            return ImageEnhance.Contrast(image).enhance(value)
        case "Brightness":
            return ImageEnhance.Brightness(image).enhance(value)
        case "Sharpness":
            return ImageEnhance.Sharpness(image).enhance(value)
        case "GaussianBlur":
            return image.filter(ImageFilter.GaussianBlur(radius=value))
        case name:
            raise AssertionError(f"the renderer has no operation {name!r}")


def _affine(image: Image.Image, matrix: tuple[float, ...], canvas: Canvas) -> Image.Image:
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=canvas.resample, fillcolor=canvas.fill)


def _posterize(image: Image.Image, bits: int) -> Image.Image:
    """Pillow 13 refuses 0 bits, which RandAugment sometimes draws. An image without any bits is black."""
    if bits >= 8:
        return image
    return ImageOps.posterize(image, bits) if bits > 0 else Image.new("RGB", image.size)


@lru_cache(maxsize=256)
def _solarize_add_table(addend: int) -> list[int]:
    """Levels below 128 are raised by ``addend``; the table has 256 entries per channel."""
    return [min(255, level + addend) if level < 128 else level for level in range(256)] * 3
