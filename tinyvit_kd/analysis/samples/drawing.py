"""Texts, bars and views on a picture, and the font that they are written in."""

from __future__ import annotations

import math
import unicodedata
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from tinyvit_kd.errors import ConfigError, said_by
from tinyvit_kd.runtime.wording import printable

Colour = tuple[int, int, int]
Box = tuple[int, int, int, int]  # left, top, right, bottom
BLACK: Colour = (20, 20, 20)
GREY: Colour = (110, 110, 110)
PALE: Colour = (235, 235, 235)
WHITE: Colour = (255, 255, 255)
RED: Colour = (200, 30, 30)
_FRAME = 4  # pixels
_NO_LETTER = "\uffff"  # no font has this one


@dataclass(frozen=True)
class Lettering:
    """A font in one size, which knows its letters.

    Attributes:
        size: of the font, pixels.
        path: of a TrueType or OpenType file; None: Pillow's own, which has the letters of English alone.
        lacking: letters that were asked for, and that the font does not have.
    """

    size: int = 13
    path: Path | None = None
    lacking: set[str] = field(default_factory=set)

    @cached_property
    def font(self) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
        """The font.

        Raises:
            ConfigError: the file is no font.
        """
        if self.path is None:
            return ImageFont.load_default(self.size)
        try:
            return ImageFont.truetype(str(self.path), self.size)
        except OSError as error:
            raise ConfigError("cannot read the font", where=str(self.path), found=said_by(error)) from None

    @property
    def line(self) -> int:
        """Height of a line, pixels."""
        return self.size + 4

    def width_of(self, text: str) -> int:
        """Width of a text that the font can write, pixels."""
        return math.ceil(self.font.getlength(text))

    def writable(self, text: str) -> str:
        """A text as the font can write it: accents are left out where it lacks them, other letters become "?"."""
        return "".join(each if self._has(each) else self._instead_of(each) for each in printable(text))

    def fit(self, text: str, width: float) -> str:
        """A text as the font can write it, cut to a width in pixels."""
        text = self.writable(text)
        if self.font.getlength(text) <= width:
            return text
        kept = len(text)
        while kept and self.font.getlength(text[:kept] + "…") > width:
            kept -= 1
        return text[:kept].rstrip() + "…"

    def wrap(self, text: str, width: float, lines: int) -> list[str]:
        """A text in at most so many lines of a width in pixels; words too long for a line are broken."""
        text = self.writable(text)
        wrapped: list[str] = []
        while text and len(wrapped) < lines - 1 and self.font.getlength(text) > width:
            end = next(end for end in range(len(text), 0, -1) if end == 1 or self.font.getlength(text[:end]) <= width)
            blank = text.rfind(" ", 1, end + 1)
            end = blank if blank > 0 else end
            wrapped.append(text[:end].rstrip())
            text = text[end:].lstrip()
        return [*wrapped, self.fit(text, width)] if text else wrapped

    def _has(self, letter: str) -> bool:
        if letter.isascii():
            return True
        known = self._known.get(letter)
        if known is None:
            known = self._known[letter] = self._drawn(letter) != self._drawn(_NO_LETTER)
        return known

    def _instead_of(self, letter: str) -> str:
        plain = "".join(each for each in unicodedata.normalize("NFKD", letter) if each.isascii())
        if not plain:
            self.lacking.add(letter)
        return plain or "?"

    def _drawn(self, letter: str) -> bytes:
        return bytes(self.font.getmask(letter))

    @cached_property
    def _known(self) -> dict[str, bool]:
        return {}


class Canvas:
    """A white picture that grows no more, and what is put on it.

    Args:
        width, height: of the picture, pixels.
        lettering: of its texts.
    """

    def __init__(self, width: int, height: int, lettering: Lettering) -> None:
        self.image = Image.new("RGB", (width, height), WHITE)
        self.lettering = lettering
        self._draw = ImageDraw.Draw(self.image)

    def write(self, place: tuple[int, int], text: str, width: int, colour: Colour = BLACK) -> None:
        """One line of text from its top left corner on, cut to a width."""
        self._draw.text(place, self.lettering.fit(text, width), fill=colour, font=self.lettering.font)

    def bar(self, place: tuple[int, int], width: float, colour: Colour) -> None:
        """A bar as high as a line of text, to be written on."""
        if width >= 1:
            left, top = place
            self._draw.rectangle((left, top, left + round(width) - 1, top + self.lettering.line - 2), fill=colour)

    def note(self, box: Box, text: str, colour: Colour = GREY) -> None:
        """A pale box with a text in it, in place of an image."""
        left, top, right, bottom = box
        self._draw.rectangle((left, top, right - 1, bottom - 1), fill=PALE)
        margin, line = 8, self.lettering.line
        lines = self.lettering.wrap(text, right - left - 2 * margin, max(1, (bottom - top - 2 * margin) // line))
        first = top + max(margin, (bottom - top - len(lines) * line) // 2)
        for number, each in enumerate(lines):
            self.write((left + margin, first + number * line), each, right - left - 2 * margin, colour)

    def frame(self, box: Box, colour: Colour) -> None:
        """A frame just within a box."""
        left, top, right, bottom = box
        self._draw.rectangle((left, top, right - 1, bottom - 1), outline=colour, width=_FRAME)

    def paste(self, image: Image.Image, box: Box) -> None:
        """An image in the middle of a box, as large as fits into it."""
        left, top, right, bottom = box
        fitted = _fitted(image, right - left, bottom - top)
        self.image.paste(fitted, (left + (right - left - fitted.width) // 2, top + (bottom - top - fitted.height) // 2))


def image_of(view: npt.NDArray[np.uint8]) -> Image.Image:
    """A view, uint8 [3, S, S], as an image."""
    return Image.fromarray(np.ascontiguousarray(view.transpose(1, 2, 0)))


def _fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """An image scaled to fit; a small one by whole numbers, so that its pixels can be seen as they are."""
    scale = min(width / image.width, height / image.height)
    if scale == 1:
        return image
    if scale >= 2:
        whole = int(scale)
        return image.resize((image.width * whole, image.height * whole), Image.Resampling.NEAREST)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)
