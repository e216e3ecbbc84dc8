"""ImageNet's validation images: all in one tar or folder, with their labels elsewhere."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from tinyvit_kd.data.building.source_rules import Listing
from tinyvit_kd.data.building.sources import images_in
from tinyvit_kd.data.source_kinds.found import FoundSource
from tinyvit_kd.data.source_kinds.imagenet_labels import validation_classes
from tinyvit_kd.data.source_kinds.labelled_files import labelled_rows
from tinyvit_kd.data.source_kinds.lists import single_split
from tinyvit_kd.errors import ShardError


def find_imagenet_validation(listing: Listing, split: str | None) -> FoundSource:
    """The images of one folder or archive, with the classes that a file beside them says.

    Raises:
        ShardError: there are no images, or the labels do not fit them.
        ConfigError: the labels are not there.
    """
    labels = listing.rules.labels
    assert labels is not None
    name = single_split(listing, split)
    images = list(images_in(listing.source, listing))
    if not images:
        raise ShardError("there are no images in the source", where=str(listing.source))
    names = sorted(PurePosixPath(image.name).name for image in images)
    rows = labelled_rows(images, listing.source, validation_classes(Path(labels), names), str(labels))
    return FoundSource(listing, {name: rows.classes()}, "names")
