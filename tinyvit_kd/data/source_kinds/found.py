"""What was found in a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tinyvit_kd.data.building.class_source import ClassSource
from tinyvit_kd.data.building.source_rules import Listing
from tinyvit_kd.data.labels.class_list import ClassList

Labels = Literal["folders", "names", "numbers", "none"]
"""What says the classes of a source's images: names of folders or archives, names or numbers in a list, or nothing."""


@dataclass(frozen=True)
class FoundSource:
    """What was found in a source.

    Attributes:
        listing: how it was looked through.
        splits: the images of each split, by class.
        labels: what says their classes; where numbers do, these are the classes' names.
        declared: all classes, in the order that the source itself gives them; None: it gives none.
        notes: what a reader should know of its rows, one line each.
    """

    listing: Listing
    splits: Mapping[str, Sequence[ClassSource]]
    labels: Labels
    declared: ClassList | None = None
    notes: tuple[str, ...] = ()
