"""What a network of transformers is shown of an image: its own preprocessing is run, and what it does is measured.

Its files have many fields, which mean something else in each class; what becomes of a black and of a white image
says which mean, deviation and size they come to.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tinyvit_kd.models.input_size import side_of
from tinyvit_kd.runtime.foreign_errors import first_line_of
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.wording import printable

PREPROCESSOR = "preprocessor_config.json"
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}  # Pillow's numbers
_SAMPLE = 48  # pixels of the images that preprocessing is asked about


@dataclass(frozen=True)
class Shown:
    """What a network is shown of an image, as its own preprocessing has it.

    Attributes:
        said: image_size, mean and std, as far as they are known.
        views: crop_mode, crop_pct and interpolation under timm's names, as far as they are known.
    """

    said: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] = field(default_factory=dict)


def shown(library: Any, name: str, options: Mapping[str, Any], where: str) -> Shown:
    """What a network's own preprocessing makes of images; nothing where it has none."""
    try:
        with quiet(library):
            processor = library.AutoImageProcessor.from_pretrained(name, **options)
        dark, light = (_processed(processor, level) for level in (0, 255))
    except Exception as error:  # it may be missing, of another package, or fail in any way
        note(f"{where}: its preprocessing is not known: {printable(first_line_of(error))}")
        return Shown()
    side = side_of(tuple(light.shape[-2:]))
    middle = side // 2
    low, high = dark[:, middle, middle].double(), light[:, middle, middle].double()
    found = {"mean": -low / (high - low), "std": 1 / (high - low)}
    said = {each: _as_written(value, getattr(processor, f"image_{each}", None)) for each, value in found.items()}
    return Shown({"image_size": side, **said}, _views(processor, side))


def _processed(processor: Any, level: int) -> torch.Tensor:
    """What becomes of an image of one level of grey: float32 [3, S, S]."""
    image = np.full((_SAMPLE, _SAMPLE, 3), level, np.uint8)
    result: torch.Tensor = processor(images=image, return_tensors="pt")["pixel_values"]
    return result.reshape(-1, *result.shape[-2:])[:3]


def _as_written(found: torch.Tensor, written: Any) -> tuple[float, ...]:
    """What preprocessing does, in the words of its file where these say so."""
    if (
        isinstance(written, (list, tuple))
        and len(written) == 3
        and torch.allclose(found, torch.tensor(written, dtype=found.dtype), rtol=1e-4, atol=1e-5)
    ):
        return tuple(map(float, written))
    return tuple(round(value, 6) for value in found.tolist())


def _views(processor: Any, side: int) -> dict[str, Any]:
    """How it resizes and crops, under timm's names."""
    size = dict(processor.size) if processor.size is not None else {}
    resample = getattr(processor, "resample", None)
    views: dict[str, Any] = {"interpolation": _FILTERS.get(resample) if isinstance(resample, int) else None}
    shortest, share = size.get("shortest_edge"), getattr(processor, "crop_pct", None)
    if getattr(processor, "do_center_crop", None) and shortest:
        return views | {"crop_mode": "center", "crop_pct": side / shortest}
    if shortest and share is not None and side < 384:  # ConvNeXT's own rule
        return views | {"crop_mode": "center", "crop_pct": share}
    if shortest and share is None:  # whole images of any shape, of which views show the middle
        return views | {"crop_mode": "center", "crop_pct": 1.0}
    return views | {"crop_mode": "squash", "crop_pct": 1.0}


def side_or_none(size: Any) -> int | None:
    """The side of a square input; None if there is none."""
    try:
        return side_of(list(size) if isinstance(size, tuple) else size)
    except (TypeError, ValueError):
        return None


@contextmanager
def quiet(library: Any) -> Iterator[None]:
    """Without its bars and reports: what matters of these is an error or a line here."""
    logging = library.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
