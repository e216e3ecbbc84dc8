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
from tinyvit_kd.data.labels.class_list import ClassList, read_class_list
from tinyvit_kd.data.labels.class_list_text import plain_lines
from tinyvit_kd.errors import ConfigError, ShardError
from tinyvit_kd.storage.base import Storage


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


def number_source(out: Storage, splits: Mapping[str, Sequence[ClassSource]], listing: Listing) -> ClassNumbers:
    """The classes in ``out`` if it already has shards, else those of the source, and their numbers.

    Raises:
        ShardError: the folders of the source may not be classes, or do not fit those of ``out``.
    """
    known = _known_classes(out, {each.class_name for sources in splits.values() for each in sources})
    require_class_level(listing, splits, known.ids if known else ())
    name = out.locate().rstrip("/").rpartition("/")[2]
    return number_classes(name, splits, known, out.locate(CLASS_LIST_FILE), listing.rules, listing.left_out)


def require_same_classes(out: Storage, classes: ClassList) -> None:
    """Check that the classes in ``out`` are those that the shards are about to be labelled by.

    Raises:
        ShardError: they are others: another build has written its own at the same moment.
    """
    known = _known_classes(out, classes.ids)
    if known is None or known.hash != classes.hash:
        raise ShardError(
            "another build has just written another class list",
            where=out.locate(CLASS_LIST_FILE),
            expected=f"the {len(classes.ids):,} classes of this source",
            fix="run the same command again: it takes the classes that are there, or says what does not fit",
        )


def _known_classes(out: Storage, names: Collection[str]) -> ClassList | None:
    """The classes of a set; each whole line if a build has written them, which may look like an id and a name."""
    if out.info(CLASS_LIST_FILE) is None:
        return None
    content = out.read(CLASS_LIST_FILE)
    try:
        lines = tuple(plain_lines(content.decode("utf-8-sig")))
    except UnicodeDecodeError:
        lines = ()
    name = Path(CLASS_LIST_FILE).stem
    written_by_us = not set(names).isdisjoint(lines) and len(set(lines)) == len(lines)
    return ClassList(name, lines) if written_by_us else read_class_list(content, name, out.locate(CLASS_LIST_FILE))
