"""Images without labels: a folder, tar or zip of them, flat or nested, whose keys are their paths."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tinyvit_kd.data.building.left_out import MEANINGS, Cause
from tinyvit_kd.data.building.source_image import Image
from tinyvit_kd.data.building.source_rules import Listing
from tinyvit_kd.data.building.sources import images_in, parts_of
from tinyvit_kd.data.building.split_names import plain_splits
from tinyvit_kd.data.source_kinds.found import FoundSource
from tinyvit_kd.data.source_kinds.keys import keys_of_paths
from tinyvit_kd.data.source_kinds.rows import Rows
from tinyvit_kd.errors import ShardError


def find_unlabelled(listing: Listing, split: str | None) -> FoundSource:
    """The images in a source and below it; of several splits, those of each folder.

    Raises:
        ShardError: there is none.
        ConfigError: two splits have the same name.
    """
    if split is not None:
        parts = {split: listing.source}
    else:
        parts = plain_splits(listing.source, parts_of(listing.source, listing))
    splits = {name: collected(images_in(path, listing), path) for name, path in parts.items()}
    if not any(map(len, splits.values())):
        raise ShardError(
            "there are no images in the source",
            where=str(listing.source),
            found="; ".join(listing.left_out.lines(MEANINGS)) or "no files",
            expected="images, in it or below it",
        )
    for name in [name for name, rows in splits.items() if not len(rows)]:
        listing.left_out.add(Cause.EMPTY_CLASS, name)
        del splits[name]
    return FoundSource(listing, {name: rows.classes() for name, rows in splits.items()}, "none")


def collected(images: Iterable[Image], path: Path) -> Rows:
    """Images of a folder or archive, sorted by their paths, which are their keys."""
    found = sorted(images, key=lambda image: image.name)
    rows = Rows.of_images(path)
    keys = keys_of_paths([image.name for image in found])
    for image, key in zip(found, keys, strict=True):
        rows.add(image.name, None, image[2:6], key)
    return rows
