"""Labels that stand beside images in a file of their own: a class for each image's name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from tinyvit_kd.data.building.source_image import Image
from tinyvit_kd.data.source_kinds.rows import Rows
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.wording import first_few

_SHOWN = 3


def labelled_rows(images: Iterable[Image], path: Path, classes: Mapping[str, str], where: str) -> Rows:
    """Images sorted by name, with their classes.

    Args:
        images: of a folder or archive.
        path: of that.
        classes: by the images' names without folders.
        where: the file that says the classes, for messages.

    Raises:
        ShardError: an image has none.
    """
    rows = Rows.of_images(path)
    without = []
    for image in sorted(images, key=lambda image: image.name):
        label = classes.get(PurePosixPath(image.name).name)
        if label is None:
            without.append(image.name)
        rows.add(image.name, label, image[2:6])
    if without:
        raise ShardError(
            "images have no line in the file of their labels",
            where=where,
            found=f"{len(without):,} of {len(rows):,} images: {first_few(without, _SHOWN)}",
            expected="the labels of these images",
        )
    return rows
