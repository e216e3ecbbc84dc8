"""A labelled JPEG data set that is drawn by code, for the demo and for tests.

A class is a shape with a fill. Some shapes resemble each other (hexagon and circle, five- and six-pointed star), and so
do fills. So a teacher's probabilities carry information that a label does not.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tinyvit_kd.runtime.seeding import Draws, hash64

SHAPES = ("triangle", "square", "pentagon", "hexagon", "circle", "star5", "star6", "cross")
FILLS = ("solid", "stripes", "checks")
DRAWN_CLASSES = tuple(f"{fill}_{shape}" for shape in SHAPES for fill in FILLS)
_SIDES = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6, "circle": 40}
Color = tuple[int, int, int]


def write_image_folder(folder: Path, count: int, seed: int) -> None:
    """Write ``count`` images, evenly divided among the classes, as ``folder/<class>/<number>.jpg``."""
    for name in DRAWN_CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        label = number % len(DRAWN_CLASSES)
        draws = Draws(seed, number)
        path = folder / DRAWN_CLASSES[label] / f"{number:06d}.jpg"
        draw_image(label, draws).save(path, quality=draws.integer(60, 95))


def draw_image(label: int, draws: Draws) -> Image.Image:
    """One RGB image of the class with this index; each side is 48 to 80 pixels."""
    shape = SHAPES[label // len(FILLS)]
    fill = FILLS[label % len(FILLS)]
    width = draws.integer(48, 80)
    height = draws.integer(48, 80)
    image = _background(width, height, draws)
    for _ in range(draws.integer(0, 3)):
        _draw_clutter(ImageDraw.Draw(image), width, height, draws)
    radius = min(width, height) * draws.uniform(0.34, 0.48)
    center = (draws.uniform(radius, width - radius), draws.uniform(radius, height - radius))
    mask = Image.new("L", image.size)
    outline = _outline(shape, center, radius, draws.uniform(-0.4, 0.4) - math.pi / 2)
    ImageDraw.Draw(mask).polygon(outline, fill=255)
    image.paste(_paint(fill, image.size, draws), mask=mask)
    return image.filter(ImageFilter.GaussianBlur(draws.uniform(0, 0.6)))


def _background(width: int, height: int, draws: Draws) -> Image.Image:
    noise = np.random.Generator(np.random.PCG64(hash64(draws.bits()))).normal(0, 12, (height, width, 1))
    ramp = np.linspace(0, 1, width)[None, :, None]
    low = np.array(_color(draws))
    high = np.array(_color(draws))
    return Image.fromarray(np.clip(low + (high - low) * ramp + noise, 0, 255).astype(np.uint8))


def _draw_clutter(canvas: ImageDraw.ImageDraw, width: int, height: int, draws: Draws) -> None:
    start = (draws.integer(0, width), draws.integer(0, height))
    end = (draws.integer(0, width), draws.integer(0, height))
    canvas.line((start, end), fill=_color(draws), width=draws.integer(1, 4))


def _paint(fill: str, size: tuple[int, int], draws: Draws) -> Image.Image:
    first = _color(draws)
    second = _color(draws)
    image = Image.new("RGB", size, first)
    canvas = ImageDraw.Draw(image)
    step = draws.integer(4, 8)
    if fill == "stripes":
        for left in range(0, size[0], 2 * step):
            canvas.rectangle((left, 0, left + step - 1, size[1]), fill=second)
    if fill == "checks":
        for left in range(0, size[0], step):
            for top in range(left // step % 2 * step, size[1], 2 * step):
                canvas.rectangle((left, top, left + step - 1, top + step - 1), fill=second)
    return image


def _outline(shape: str, center: tuple[float, float], radius: float, angle: float) -> list[tuple[float, float]]:
    radii = _radii(shape)
    step = 2 * math.pi / len(radii)
    return [
        (
            center[0] + radius * r * math.cos(angle + i * step),
            center[1] + radius * r * math.sin(angle + i * step),
        )
        for i, r in enumerate(radii)
    ]


def _radii(shape: str) -> list[float]:
    """Distances of an outline's corners from its centre, at equal angles."""
    if shape in _SIDES:
        return [1.0] * _SIDES[shape]
    if shape == "cross":
        return [1.0, 1.0, 0.45] * 4
    return [1.0, 0.5] * int(shape.removeprefix("star"))


def _color(draws: Draws) -> Color:
    return draws.integer(0, 255), draws.integer(0, 255), draws.integer(0, 255)
