"""Tiny-ImageNet as it is handed out: train/n*/images, val/images with val_annotations.txt; a folder or a zip.

Source: cs231n.stanford.edu/tiny-imagenet-200.zip.
"""

from __future__ import annotations

from pathlib import Path

from tinyvit_kd.data.building.source_archives import member_of_zip, names_in_zip, zip_images
from tinyvit_kd.data.building.source_folders import folder_images
from tinyvit_kd.data.building.source_rules import Listing
from tinyvit_kd.data.source_kinds.found import FoundSource
from tinyvit_kd.data.source_kinds.labelled_files import labelled_rows
from tinyvit_kd.data.source_kinds.rows import Rows
from tinyvit_kd.errors import ConfigError, ShardError

_ANNOTATIONS = "val/val_annotations.txt"
_SPLITS = ("train", "val")


def is_tiny_imagenet(path: Path) -> bool:
    """Whether a path is that data set, by its file of validation labels."""
    if path.is_dir():
        return (path / _ANNOTATIONS).is_file()
    return path.suffix.lower() == ".zip" and path.is_file() and _prefix(path) is not None


def find_tiny_imagenet(listing: Listing, split: str | None) -> FoundSource:
    """The images of a split, or of both that have labels.

    Raises:
        ShardError: the labels do not fit the images.
        ConfigError: the split is another one.
    """
    wanted = {split: listing.rules.split or split} if split is not None else {each: each for each in _SPLITS}
    if unknown := [name for name in wanted.values() if name not in _SPLITS]:
        raise ConfigError(
            "Tiny-ImageNet has no such split with labels",
            where=str(listing.source),
            found=unknown[0],
            expected=f"one of {', '.join(_SPLITS)}",
            fix="its test images have no labels: give the folder test of the unpacked data set, and --unlabelled",
        )
    return FoundSource(listing, {name: _rows(listing, part).classes() for name, part in wanted.items()}, "names")


def _rows(listing: Listing, part: str) -> Rows:
    source = listing.source
    if source.is_dir():
        annotations = (source / _ANNOTATIONS).read_bytes() if part == "val" else b""
        images = [image._replace(name=f"{part}/{image.name}") for image in folder_images(source / part, listing)]
    else:
        prefix = _prefix(source) or ""
        annotations = member_of_zip(source, prefix + _ANNOTATIONS) if part == "val" else b""
        found = (image for image in zip_images(source, listing) if image.name.startswith(f"{prefix}{part}/"))
        images = [image._replace(name=image.name.removeprefix(prefix)) for image in found]
    if part == "val":
        classes = _annotated(listing, annotations)
    else:  # train/n01443537/images/n01443537_0.JPEG
        classes = {image.name.rpartition("/")[2]: image.name.split("/")[1] for image in images}
    return labelled_rows(images, source, classes, f"{source}, {_ANNOTATIONS}")


def _annotated(listing: Listing, content: bytes) -> dict[str, str]:
    """Classes by the names of images: val_0.JPEG, n03444034, and four numbers of a box in each line."""
    lines = [line.split("\t") for line in content.decode("utf-8", "replace").splitlines() if line.strip()]
    if bad := next((number for number, line in enumerate(lines, 1) if len(line) < 2), 0):
        raise ShardError(
            "a line of Tiny-ImageNet's validation labels cannot be read",
            where=f"{listing.source}, {_ANNOTATIONS}, line {bad}",
            expected="the name of an image and a class, with tabs between them",
            fix="fetch the data set again",
        )
    return {line[0]: line[1] for line in lines}


def _prefix(path: Path) -> str | None:
    """The folder of a zip in which the data set lies, with a slash; None if it is another zip."""
    for name in names_in_zip(path):
        if name.endswith(_ANNOTATIONS) and name.count("/") <= 2:
            return name.removesuffix(_ANNOTATIONS)
    return None
