"""Source images of a build: one folder, one tar or one zip per class, or an archive with such folders or tars in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from tinyvit_kd.data.building.class_source import ClassSource, require_a_line
from tinyvit_kd.data.building.left_out import Cause
from tinyvit_kd.data.building.source_archives import (
    folders_of,
    images_of_tar_inside,
    shared_folders,
    tar_images,
    tars_inside,
    zip_images,
)
from tinyvit_kd.data.building.source_folders import Found, entries, folder_images, takes_file
from tinyvit_kd.data.building.source_image import Image
from tinyvit_kd.data.building.source_rules import Listing, is_compressed_tar
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.wording import first_few

_METADATA = ("metadata.csv", "metadata.jsonl")


def list_classes(source: Path, listing: Listing | None = None) -> list[ClassSource]:
    """List the classes of a source, sorted by name, with their images; classes without images, too.

    What becomes no sample is counted in ``listing``.

    Args:
        source: a folder of class folders, class tars or class zips; a tar or zip of class folders; or a tar of tars.
        listing: how to look.

    Raises:
        ShardError: the source holds none of these, or more than one kind of them, or one of them cannot be read.
    """
    listing = listing or Listing(source)
    classes = _in_folder(source, listing) if source.is_dir() else _in_archive(source, listing)
    return sorted(classes, key=lambda each: each.class_name)


def list_splits(source: Path, listing: Listing) -> dict[str, list[ClassSource]]:
    """The same for a source whose folders, tars or zips are splits; those without images are left out and counted.

    Raises:
        ShardError: as in ``list_classes``.
    """
    if source.is_dir():
        _, found = _containers(source, listing)
        splits = {_name_of(each): list_classes(each.path, listing) for each in found}
    else:
        groups = _by_folder(_whole(source, listing), listing)
        splits = {group.class_name: sorted(_by_folder(group, listing), key=_class_name) for group in groups}
    for name in [name for name, classes in splits.items() if not any(map(len, classes))]:
        listing.left_out.add(Cause.EMPTY_CLASS, name)
        del splits[name]
    return splits


def parts_of(source: Path, listing: Listing) -> dict[str, Path]:
    """The folders, tars or zips in a folder, by their names without suffixes.

    Raises:
        ShardError: there are several kinds of them, or images beside none.
    """
    return {_name_of(each): each.path for each in _containers(source, listing)[1]}


def images_in(path: Path, listing: Listing) -> Iterator[Image]:
    """All images in a folder, tar or zip, and in the tars of a tar.

    Raises:
        ShardError: it is none of these, or cannot be read.
    """
    for inner in tars_inside(path) if CONTAINERS["tar"].holds(path) else ():
        folder = PurePosixPath(inner.name).with_suffix("")
        for image in images_of_tar_inside(inner, listing):
            yield image._replace(name=f"{folder}/{image.name}")
    yield from _container_of(path).images(path, listing)


def _in_folder(source: Path, listing: Listing) -> Iterator[ClassSource]:
    kind, found = _containers(source, listing)
    for each in found:
        yield _class_source(_name_of(each), each, CONTAINERS[kind].images(each.path, listing), listing)


def _containers(source: Path, listing: Listing) -> tuple[str, list[Found]]:
    """The kind of containers in a folder, and all of that kind; what else lies there is counted."""
    output = None if listing.output is None else os.path.realpath(listing.output)
    found = [each for each in entries(source, listing) if os.path.realpath(each.path) != output]
    by_kind = {kind: [each for each in found if container.holds(each.path)] for kind, container in CONTAINERS.items()}
    present = {kind: members for kind, members in by_kind.items() if members}
    compressed = [each.path.name for each in found if is_compressed_tar(each.path.name)]
    taken = {each.path for members in present.values() for each in members}
    loose = [each for each in found if each.path not in taken and takes_file(each, listing)]
    for each in loose:
        listing.left_out.add(Cause.OUTSIDE_CLASSES, listing.shown(each.path))
    if compressed and "folder" not in present:
        raise ShardError(
            "the source folder holds compressed tars, in which images cannot be found without unpacking all",
            where=str(source),
            found=first_few(compressed, 5),
            expected="plain tars, or folders",
            fix="decompress them, for example with gunzip, or unpack them into folders",
        )
    if not present and loose:
        raise no_class_folders(str(source), len(loose), loose[0].path.name, advice_on_metadata(source))
    if not present:
        return "folder", []
    if len(present) > 1:
        raise ShardError(
            "cannot tell what the source folder holds",
            where=str(source),
            found=", ".join(f"{len(members)} {kind}s ({members[0].path.name}, …)" for kind, members in present.items()),
            expected=f"one {' or one '.join(CONTAINERS)} for each class, all of one kind",
            fix="move the others away",
        )
    return next(iter(present.items()))


def _in_archive(source: Path, listing: Listing) -> Iterable[ClassSource]:
    tars = tars_inside(source) if CONTAINERS["tar"].holds(source) else []
    whole = None if tars else _whole(source, listing)
    if whole is not None:
        return _by_folder(whole, listing)
    return [
        _class_source(PurePosixPath(inner.name).stem, source, images_of_tar_inside(inner, listing), listing)
        for inner in tars
    ]


def _whole(source: Path, listing: Listing) -> ClassSource:
    """An archive as if it were one class."""
    return _class_source("", source, _container_of(source).images(source, listing), listing)


def _container_of(source: Path) -> Container:
    for container in CONTAINERS.values():
        if container.holds(source):
            return container
    raise ShardError(
        "the source is no archive of images",
        where=str(source),
        expected="a folder, a plain tar (.tar) or zip (.zip), or a list (.csv, .tsv, .jsonl, .parquet)",
        fix="decompress it, for example with gunzip" if is_compressed_tar(source.name) else "",
    )


def _by_folder(whole: ClassSource, listing: Listing) -> list[ClassSource]:
    """One class for each folder of an archive, below the folders that all images share.

    Raises:
        ShardError: the images lie in no folder.
    """
    names = [whole.name(index) for index in range(len(whole))]
    folders = [folders_of(name) for name in names]
    base = _base(set(folders))
    # Folders of which no file is an image are classes without images.
    shared = folders[0][:base] if folders else ()
    all_folders = listing.folders[whole.path] if not whole.class_name else ()
    rows = {
        folder[base]: list[int]() for folder in sorted(all_folders) if len(folder) > base and folder[:base] == shared
    }
    for row, folder in enumerate(folders):
        if len(folder) > base:
            rows.setdefault(folder[base], []).append(row)
        else:
            listing.left_out.add(Cause.OUTSIDE_CLASSES, f"{listing.shown(whole.path)}:{names[row]}")
    if names and not any(rows.values()):
        raise no_class_folders(str(whole.path), len(names), names[0])
    return [
        ClassSource(
            class_name=name,
            path=whole.path,
            is_folder=False,
            names=np.array([_below(names[row], base + 1) for row in chosen], dtype=np.bytes_),
            extents=whole.extents[chosen],
        )
        for name, chosen in rows.items()
        if require_a_line(name, whole.path)
    ]


def _base(folders: set[tuple[str, ...]]) -> int:
    """How many folders all images share; if all lie in a single one, this is the one class, which is not counted."""
    shared = shared_folders(folders)
    return max(0, len(shared) - 1) if folders == {shared} else len(shared)


def _below(name: str, depth: int) -> bytes:
    return os.fsencode("/".join([*folders_of(name)[depth:], PurePosixPath(name).name]))


def advice_on_metadata(source: Path) -> str:
    """What to do with a file of labels as Hugging Face's ``ImageFolder`` takes them; empty if there is none.

    Source: the hub's pages on image data sets (metadata.csv or metadata.jsonl beside the images).
    """
    found = [each for name in _METADATA for pattern in (name, f"*/{name}") for each in sorted(source.glob(pattern))]
    if not found:
        return ""
    return f"if {found[0]} has the labels, give it as the source, with --label-column if it needs one"


def no_class_folders(where: str, count: int, first: str, advice: str = "") -> ShardError:
    """The error of images that no folder says the class of."""
    return ShardError(
        "the images lie in no class's folder, so their classes are unknown",
        where=where,
        found=f"{count:,} images ({first}, …)",
        expected="one folder, tar or zip per class",
        fix=(f"{advice}; else " if advice else "")
        + "sort the images into one folder per class; if they are the images of one class, give the folder above; for "
        "ImageNet's validation images, --labels names the file with their labels; --unlabelled packs any without",
    )


def _class_source(name: str, found: Found | Path, images: Iterator[Image], listing: Listing) -> ClassSource:
    path, is_folder = (found, False) if isinstance(found, Path) else (found.path, found.is_folder)
    require_a_line(name, path)
    before = listing.left_out.counts.copy()
    listed = list(images)
    left_out = listing.left_out.counts - before
    return ClassSource(
        class_name=name,
        path=path,
        is_folder=is_folder,
        names=np.array([os.fsencode(image.name) for image in listed], dtype=np.bytes_),
        extents=np.array([image[2:6] for image in listed], dtype=np.int64).reshape(-1, 4),
        archives=left_out[Cause.ARCHIVE],
        others=left_out.total() - left_out[Cause.ARCHIVE],
    )


def _class_name(source: ClassSource) -> str:
    return source.class_name


def _name_of(found: Found) -> str:
    return found.path.name if found.is_folder else found.path.stem


class Container(NamedTuple):
    """A form in which the images of one class can be given."""

    holds: Callable[[Path], bool]  # whether a path has this form
    images: Callable[[Path, Listing], Iterator[Image]]  # lists the images in it, and counts what is none


CONTAINERS: dict[str, Container] = {
    "folder": Container(Path.is_dir, folder_images),
    "tar": Container(lambda path: path.suffix.lower() == ".tar" and path.is_file(), tar_images),
    "zip": Container(lambda path: path.suffix.lower() == ".zip" and path.is_file(), zip_images),
}
"""Containers by their name in messages; to support another one, add a line here."""
