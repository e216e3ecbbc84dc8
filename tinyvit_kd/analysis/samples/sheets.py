"""Samples of a store as one picture: a row each, with the image, its views, and what the teacher said of each view."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tinyvit_kd.analysis.samples.drawing import BLACK, GREY, RED, Box, Canvas, Colour, Lettering, image_of
from tinyvit_kd.analysis.samples.replayed_views import ReplayedView
from tinyvit_kd.analysis.samples.stored_samples import SampleLabel, StoredSample
from tinyvit_kd.config.view_spec import EvalViewSpec
from tinyvit_kd.errors import BadImageError, BlockMissingError
from tinyvit_kd.views.decode import decode

BEST = 5  # classes that are named under a view
SMALLEST, LARGEST = 192, 256  # side of a shown view, pixels; views in between are shown as they are
MARGIN, GAP = 12, 10  # pixels
_LINES = BEST + 1  # under a view: the best classes, and all others
_RIGHT: Colour = (178, 223, 178)  # bars: of the label
_MIXED: Colour = (222, 200, 240)  # of the label of what is mixed in
_OTHER: Colour = (205, 218, 238)


class _Grid(NamedTuple):
    """Where things are on a sheet, in pixels."""

    tile: int
    columns: int
    line: int
    top: int  # of the first row
    captions: int  # lines between a view and its classes: 1 where any view has something to say, else 0

    @property
    def row_height(self) -> int:
        return self.tile + (self.captions + _LINES) * self.line + 2 * GAP

    def size(self, rows: int) -> tuple[int, int]:
        return 2 * MARGIN + self.columns * (self.tile + GAP) - GAP, self.top + rows * self.row_height

    def tile_box(self, row: int, column: int) -> Box:
        left, top = MARGIN + column * (self.tile + GAP), self.top + row * self.row_height
        return left, top, left + self.tile, top + self.tile

    def below(self, row: int, column: int, number: int) -> tuple[int, int]:
        """Top left corner of a line of text under a tile."""
        left, _, _, bottom = self.tile_box(row, column)
        return left, bottom + 4 + number * self.line


def sample_sheet(
    samples: Sequence[StoredSample], names: Sequence[str], title: str = "", lettering: Lettering | None = None
) -> Image.Image:
    """A picture of samples, a row each.

    On the left is the image with its label. To the right are its views, as they were rendered again, and below each the
    teacher's best classes with their probabilities. The bar of the label's class is green, that of a label that is
    mixed in violet. A view that is not the one that the teacher saw has a red frame, and says so.

    Views of 192 to 256 pixels are shown pixel by pixel, smaller ones enlarged by a whole number, larger ones reduced.

    Args:
        samples: of ``StoredSamples.sample``, at least one, with equally many views each.
        names: of the teacher's classes (``StoredSamples.names``).
        title: a line above.
        lettering: the font; None: Pillow's own.
    """
    assert samples
    lettering = lettering or Lettering()
    views = [view for sample in samples for view in sample.views]
    tile, top = _tile_size(views), MARGIN + (2 if title else 1) * lettering.line + 4
    captions = int(any(view.differs or view.lam < 1 for view in views))
    grid = _Grid(tile, 1 + len(samples[0].views), lettering.line, top, captions)
    canvas = Canvas(*grid.size(len(samples)), lettering)
    if title:
        canvas.write((MARGIN, MARGIN), title, canvas.image.width - 2 * MARGIN)
    for column, heading in enumerate(["image", *(f"view {view.number}" for view in samples[0].views)]):
        left = grid.tile_box(0, column)[0]
        canvas.write((left, grid.top - lettering.line - 2), heading, tile, GREY)
    for row, sample in enumerate(samples):
        _draw_image(canvas, grid, row, sample)
        for column, (view, mixed) in enumerate(zip(sample.views, sample.mixed_labels, strict=True), start=1):
            _draw_view(canvas, grid.tile_box(row, column), view)
            _draw_answer(canvas, grid, (row, column), view, (sample.label, mixed), names)
    return canvas.image


def picture_beside(path: str | PathLike[str]) -> Path:
    """Where the picture goes: beside the store, as its log; of a store with a URL, into the working directory."""
    if "://" in (path := os.fspath(path)):
        return Path(f"{path.rstrip('/').rpartition('/')[2] or 'store'}.show.png")
    folder = Path(path).absolute()
    return folder.parent / f"{folder.name}.show.png"


def _tile_size(views: Sequence[ReplayedView]) -> int:
    side = max((view.pixels.shape[-1] for view in views if view.pixels is not None), default=SMALLEST)
    return min(side, LARGEST) if side >= SMALLEST else side * math.ceil(SMALLEST / side)


def _draw_image(canvas: Canvas, grid: _Grid, row: int, sample: StoredSample) -> None:
    box = grid.tile_box(row, 0)
    try:
        canvas.paste(decode(sample.image_bytes, EvalViewSpec().max_pixels), box)
    except BadImageError as error:
        canvas.note(box, error.what, RED)
    lines = canvas.lettering.wrap(f"label: {sample.label.name}", grid.tile, 3)
    for number, text in enumerate(lines):
        canvas.write(grid.below(row, 0, number), text, grid.tile)
    place = f"{sample.shard}:{sample.index} of {sample.shard_name}"
    for number, text in enumerate((f"key {sample.key}", place), start=len(lines)):
        canvas.write(grid.below(row, 0, number), text, grid.tile, GREY)


def _draw_view(canvas: Canvas, box: Box, view: ReplayedView) -> None:
    if view.pixels is not None:
        canvas.paste(image_of(view.pixels), box)
    elif view.hole:
        canvas.note(box, f"hole: {view.hole.replace('_', ' ')}")
    elif isinstance(view.error, BlockMissingError):
        canvas.note(box, "not dumped")
    elif view.error is not None:
        canvas.note(box, f"{view.error.what} ({view.error.found})" if view.error.found else view.error.what, RED)
    if view.differs:
        canvas.frame(box, RED)


def _draw_answer(
    canvas: Canvas,
    grid: _Grid,
    cell: tuple[int, int],
    view: ReplayedView,
    labels: tuple[SampleLabel, SampleLabel | None],
    names: Sequence[str],
) -> None:
    record = view.record
    if record is None or view.hole:
        return
    label, mixed = labels
    if view.differs:
        canvas.write(grid.below(*cell, 0), "NOT the view that the teacher saw", grid.tile, RED)
    elif mixed is not None and view.lam < 1:
        canvas.write(grid.below(*cell, 0), f"{view.lam:.0%} this, {1 - view.lam:.0%} {mixed.name}", grid.tile, GREY)
    probs = record.probs[0]
    best = np.argsort(-probs, kind="stable")[:BEST]
    for number, place in enumerate(best.tolist(), start=grid.captions):
        found, prob = int(record.indices[0, place]), float(probs[place])
        mixed_class = -1 if mixed is None else mixed.teacher_class
        colour = _RIGHT if found == label.teacher_class else _MIXED if found == mixed_class else _OTHER
        _draw_class(canvas, grid.below(*cell, number), grid.tile, prob, names[found], colour)
    rest = max(0.0, 1 - float(probs[best].sum()))
    _draw_class(canvas, grid.below(*cell, grid.captions + len(best)), grid.tile, rest, "all others", None)


def _draw_class(
    canvas: Canvas, place: tuple[int, int], width: int, prob: float, name: str, colour: Colour | None
) -> None:
    """A line with a class and its probability, on a bar that is as long as it is probable; None: no bar."""
    left, top = place
    if colour is not None:
        canvas.bar(place, prob * width, colour)
    text = GREY if colour is None else BLACK
    figure = f"{prob:.1%}"
    room = canvas.lettering.size * 7 // 2
    canvas.write((left + room - canvas.lettering.width_of(figure), top), figure, room, text)
    canvas.write((left + room + 6, top), name, width - room - 6, text)
