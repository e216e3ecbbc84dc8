"""Lists the images in tars and zips, and in tars inside a tar; nothing is unpacked."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from tinyvit_kd.data.building.left_out import Cause
from tinyvit_kd.data.building.source_image import NONE, Image, bad_zip, read_head
from tinyvit_kd.data.building.source_rules import Listing, is_hidden
from tinyvit_kd.data.image_formats import HEAD_BYTES
from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.data.tars.members import tar_members
from tinyvit_kd.errors import ShardError
from tinyvit_kd.storage.base import FileInfo

_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: lengths of its name and of its extra field
# What a tar's reader leaves out, by its cause there.
_CAUSES = {
    "link": Cause.DANGLING,
    "folder_link": Cause.FOLDER_LINK,
    "sparse": Cause.SPECIAL,
    "special": Cause.SPECIAL,
    "system": Cause.HIDDEN,
    "hidden": Cause.HIDDEN,
    "other": Cause.NOT_AN_IMAGE,
}


class FileInside(ShardFiles):
    """Reads a part of a file as if it were a file of its own: a tar inside a tar.

    Args:
        files: reads the file.
        start: first byte of the part.
        size: of the part, bytes.
    """

    def __init__(self, files: ShardFiles, start: int, size: int) -> None:
        super().__init__()
        self._files, self._start, self._size = files, start, size

    def info(self, location: Location) -> FileInfo:
        """As ``ShardFiles.info``, of the part."""
        return FileInfo(self._size, self._files.info(location).modified_ns)

    def read_at_most(self, location: Location, offset: int, size: int) -> bytes:
        """As ``ShardFiles.read_at_most``, of the part."""
        size = min(size, self._size - offset)
        return self._files.read_at_most(location, self._start + offset, size) if size > 0 else b""


def tar_images(tar: Path, listing: Listing) -> Iterator[Image]:
    """The images in a tar, in its order."""
    with ShardFiles() as files:
        leftovers = Leftovers()
        yield from _images_among(_tar_members(tar, files, leftovers), files, listing.shown(tar), listing)
    _count_leftovers(leftovers, listing.shown(tar), listing)


def tars_inside(tar: Path) -> list[Image]:
    """The tars in a tar, by name, hidden ones left out."""
    with ShardFiles() as files:
        members = list(_tar_members(tar, files, Leftovers()))
    tars = [member for member in members if member.name.lower().endswith(".tar") and not hidden_part(member.name)]
    return sorted(tars, key=lambda member: member.name)


def images_of_tar_inside(inner: Image, listing: Listing) -> Iterator[Image]:
    """The images in a tar inside a tar; their offsets count from the outer one's start."""
    with ShardFiles() as files, FileInside(files, inner.offset, inner.size) as part:
        leftovers = Leftovers()
        members = _tar_members(inner.file, part, leftovers, inner.offset, f"{inner.name} in ")
        shown = f"{listing.shown(inner.file)}:{inner.name}"
        yield from _images_among(members, files, shown, listing)
    _count_leftovers(leftovers, shown, listing)


def zip_images(path: Path, listing: Listing) -> Iterator[Image]:
    """The images in a zip, in the order of its directory."""
    try:
        with zipfile.ZipFile(path) as archive, ShardFiles() as files:
            members = (_zip_member(path, entry, files) for entry in archive.infolist() if not entry.is_dir())
            yield from _images_among(members, files, listing.shown(path), listing)
    except (zipfile.BadZipFile, OSError, NotImplementedError, struct.error) as error:
        raise bad_zip(path, str(error)) from None


def names_in_zip(path: Path) -> list[str]:
    """The names of the files in a zip; none of a damaged one."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, struct.error):
        return []


def member_of_zip(path: Path, name: str) -> bytes:
    """The bytes of a small file in a zip.

    Raises:
        ShardError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError, KeyError, zlib.error) as error:
        raise bad_zip(path, f"{name}: {error}") from None


def folders_of(name: str) -> tuple[str, ...]:
    """The folders of a member's name, without those that mean nothing: ``./a//b.jpg`` lies in ``a``."""
    return tuple(part for part in name.split("/")[:-1] if part not in ("", "."))


def shared_folders(folders: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    """The folders with which all of these begin."""
    if not folders:
        return ()
    first, last = min(folders), max(folders)
    pairs = zip(first, last, strict=False)
    return first[: next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(first), len(last)))]


def hidden_part(name: str) -> str | None:
    """A member's name up to its first part that is hidden or of the system; None if no part is."""
    parts = (*folders_of(name), PurePosixPath(name).name)
    first = next((number for number, part in enumerate(parts, 1) if is_hidden(part)), None)
    return None if first is None else "/".join(parts[:first])


def _tar_members(
    tar: Path, files: ShardFiles, leftovers: Leftovers, start: int = 0, inner: str = ""
) -> Iterator[Image]:
    try:
        for member in tar_members(files, tar, leftovers):
            yield Image(tar, member.name, start + member.offset, member.size)
    except ShardError as error:
        raise ShardError(
            "a tar of images cannot be read",
            where=f"{inner}{tar}",
            found=error.found or "a compressed file",
            expected=error.expected,
            fix=error.fix,
        ) from None


def _count_leftovers(leftovers: Leftovers, archive: str, listing: Listing) -> None:
    for cause, count in leftovers.counts.items():
        if cause in _CAUSES:
            names = [f"{archive}:{name}" for name in leftovers.names[cause]]
            listing.left_out.add_many(_CAUSES[cause], count, names)


def _images_among(members: Iterator[Image], files: ShardFiles, archive: str, listing: Listing) -> Iterator[Image]:
    hidden: set[str] = set()
    for member in members:
        if (part := hidden_part(member.name)) is not None:
            hidden.add(part)
            continue
        listing.folders[member.file].add(folders_of(member.name))
        head = partial(read_head, member, files, HEAD_BYTES)
        if listing.takes(PurePosixPath(member.name).name, partial("{}:{}".format, archive, member.name), head):
            yield member
    for part in sorted(hidden):
        listing.left_out.add(Cause.HIDDEN, f"{archive}:{part}")


def _zip_member(path: Path, entry: zipfile.ZipInfo, files: ShardFiles) -> Image:
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise bad_zip(path, f"{entry.filename} is encrypted, or compressed by another method than deflate")
    header = files.read(path, entry.header_offset, _LOCAL_HEADER.size)
    offset = entry.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header))
    unpacked_size = NONE if entry.compress_type == zipfile.ZIP_STORED else entry.file_size
    return Image(path, entry.filename, offset, entry.compress_size, unpacked_size, entry.CRC)
