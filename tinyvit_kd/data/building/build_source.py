"""What a build finds in its source: splits, their classes, and the classes' numbers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from tinyvit_kd.data.building.class_numbers import ClassNumbers, number_classes
from tinyvit_kd.data.building.source_levels import require_class_level, require_readable
from tinyvit_kd.data.building.source_rules import Listing
from tinyvit_kd.data.building.sources import ClassSource, list_classes, list_splits
from tinyvit_kd.data.classes_beside import CLASS_LIST_FILE
from tinyvit_kd.data.labels.class_list import ClassList, load_class_list
from tinyvit_kd.data.labels.class_list_text import plain_lines
from tinyvit_kd.errors import ConfigError


def find_splits(listing: Listing, split: str | None) -> dict[str, list[ClassSource]]:
    """The classes of each split; those without images, too.

    Args:
        listing: how to look.
        split: the name of the only one; None: each folder, tar or zip of the source is a split.

    Raises:
        ShardError: the source cannot be read.
        ConfigError: two splits have the same name.
    """
    if split is not None:
        splits = {split: list_classes(listing.source, listing)}
    else:
        splits = _plainly_named(listing.source, list_splits(listing.source, listing))
    require_readable(listing)
    return splits


def _plainly_named(source: Path, found: Mapping[str, list[ClassSource]]) -> dict[str, list[ClassSource]]:
    splits = {re.sub(r"\W", "_", name, flags=re.ASCII): classes for name, classes in found.items()}
    if len(splits) < len(found):
        raise ConfigError(
            "two splits of the source would have the same name",
            where=str(source),
            found=", ".join(found),
            expected="names of letters, digits and _, to which other characters are changed",
            fix="rename their folders",
        )
    return splits


def number_source(out: Path, splits: Mapping[str, Sequence[ClassSource]], listing: Listing) -> ClassNumbers:
    """The classes in ``out`` if it already has shards, else those of the source, and their numbers.

    Raises:
        ShardError: the folders of the source may not be classes, or do not fit those of ``out``.
    """
    path = out / CLASS_LIST_FILE
    known = _known_classes(path, {each.class_name for sources in splits.values() for each in sources})
    require_class_level(listing, splits, known.ids if known else ())
    return number_classes(out.name, splits, known, path, listing.rules, listing.left_out)


def _known_classes(path: Path, names: Collection[str]) -> ClassList | None:
    """The classes of a set; each whole line if a build has written them, which may look like an id and a name."""
    if not path.exists():
        return None
    try:
        lines = tuple(plain_lines(path.read_text("utf-8-sig")))
    except UnicodeDecodeError:
        lines = ()
    written_by_us = not set(names).isdisjoint(lines) and len(set(lines)) == len(lines)
    return ClassList(path.stem, lines) if written_by_us else load_class_list(str(path))
