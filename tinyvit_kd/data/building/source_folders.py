"""Walks through a folder of images: follows links inside the source only, and opens nothing but regular files."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tinyvit_kd.data.building.left_out import Cause
from tinyvit_kd.data.building.source_image import Image
from tinyvit_kd.data.building.source_rules import Listing, is_hidden
from tinyvit_kd.data.image_formats import HEAD_BYTES
from tinyvit_kd.errors import reason_of

_LEADS_NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # of a link
_Identity = tuple[int, int]  # device and number of a folder


class Found(NamedTuple):
    """A regular file, or a folder."""

    path: Path
    is_folder: bool
    size: int  # bytes
    identity: _Identity


def folder_images(folder: Path, listing: Listing) -> Iterator[Image]:
    """The images in a folder and in its sub-folders: of each folder the files first, both sorted by name."""
    above = [place for place in (folder, *folder.parents) if place == listing.source or listing.source in place.parents]
    prefix = len(f"{folder}/")
    for found in _walk(folder, listing, tuple(map(_identity, above))):
        yield Image(found.path, str(found.path)[prefix:], 0, found.size)


def entries(folder: Path, listing: Listing) -> list[Found]:
    """The regular files and folders in a folder, sorted by name; what else is there is counted as left out."""
    try:
        with os.scandir(folder) as scan:
            present = sorted(scan, key=lambda entry: entry.name)
    except OSError as error:
        listing.left_out.add(Cause.UNREADABLE, f"{listing.shown(folder)} ({reason_of(error)})")
        return []
    return [found for entry in present if (found := _examine(entry, listing)) is not None]


def takes_file(found: Found, listing: Listing) -> bool:
    """Whether a regular file is an image; if not, it is counted."""
    try:
        return listing.takes(found.path.name, lambda: listing.shown(found.path), lambda: _head(found.path))
    except OSError as error:
        listing.left_out.add(Cause.UNREADABLE, f"{listing.shown(found.path)} ({reason_of(error)})")
        return False


def _walk(folder: Path, listing: Listing, above: tuple[_Identity, ...]) -> Iterator[Found]:
    found = entries(folder, listing)
    yield from (each for each in found if not each.is_folder and takes_file(each, listing))
    for each in found:
        if not each.is_folder:
            continue
        if each.identity in above:
            listing.left_out.add(Cause.LOOP, listing.shown(each.path))
        else:
            yield from _walk(each.path, listing, (*above, each.identity))


def _examine(entry: os.DirEntry[str], listing: Listing) -> Found | None:
    reason = ""
    try:
        cause, info = _fault(entry, listing)
    except OSError as error:
        leads_nowhere = entry.is_symlink() and error.errno in _LEADS_NOWHERE
        cause, info = Cause.DANGLING if leads_nowhere else Cause.UNREADABLE, None
        reason = "" if leads_nowhere else f" ({reason_of(error)})"
    path = Path(entry.path)
    if cause is None and info is not None:
        return Found(path, stat.S_ISDIR(info.st_mode), info.st_size, _identity(info))
    listing.left_out.add(cause or Cause.SPECIAL, listing.shown(path) + reason)
    return None


def _fault(entry: os.DirEntry[str], listing: Listing) -> tuple[Cause | None, os.stat_result | None]:
    """Why an entry is left out, or what it is; of a link, what it leads to."""
    if is_hidden(entry.name):
        return Cause.HIDDEN, None
    info = entry.stat()
    if entry.is_symlink() and listing.rules.outside_links != "follow":
        target = Path(os.path.realpath(entry.path))
        if not target.is_relative_to(listing.real_source):
            return Cause.OUTSIDE_LINK, None
    if stat.S_ISREG(info.st_mode):
        return (None, info) if os.access(entry.path, os.R_OK) else (Cause.UNREADABLE, None)
    return (None, info) if stat.S_ISDIR(info.st_mode) else (Cause.SPECIAL, None)


def _identity(of: Path | os.stat_result) -> _Identity:
    info = of.stat() if isinstance(of, Path) else of
    return info.st_dev, info.st_ino


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)
