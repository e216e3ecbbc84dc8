"""Images as they come: one folder, one tar or one zip a class."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit_kd.data.index import IMAGE_SUFFIXES, Int64
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.data.tars import tar_members
from tinyvit_kd.errors import ShardError

_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: lengths of its name and extra field
_NONE = -1  # in place of what only zip members have


class Image(NamedTuple):
    """Where one image's bytes lie."""

    file: Path
    name: str  # inside its class
    offset: int
    size: int  # as stored, bytes
    unpacked: int = _NONE  # bytes once inflated; -1: stored as it is
    crc32: int = _NONE  # of the unpacked bytes

    @property
    def suffix(self) -> str:
        """Lower-case suffix, ``jpeg`` written as timm's reader knows it."""
        suffix = _suffix(self.name)
        return "jpg" if suffix == "jpeg" else suffix


@dataclass(frozen=True, eq=False)
class ClassSource:
    """The images of one class, as columns: there may be millions."""

    class_name: str
    path: Path  # the folder, tar or zip
    is_folder: bool
    names: npt.NDArray[np.bytes_]  # [n], inside path
    spans: Int64  # [n, 4]: offset, size, unpacked, crc32

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Image:
        """Where one image lies."""
        name = os.fsdecode(bytes(self.names[index]))
        return Image(self.path / name if self.is_folder else self.path, name, *self.spans[index].tolist())


def list_classes(source: Path) -> list[ClassSource]:
    """The classes of a folder of class folders, class tars or class zips, sorted by name, with their images.

    Files that are no images, and classes without any, are left out.

    Raises:
        ShardError: the folder holds none of these, or several kinds of them, or one cannot be read.
    """
    paths = [path for path in sorted(source.iterdir()) if not path.name.startswith(".")]
    by_kind = {kind: [path for path in paths if container.holds(path)] for kind, container in CONTAINERS.items()}
    present = {kind: found for kind, found in by_kind.items() if found}
    if len(present) != 1:
        raise ShardError(
            "cannot tell what the source folder holds",
            where=str(source),
            found=", ".join(f"{len(found)} {kind}s" for kind, found in present.items()),
            expected=f"one {', one '.join(CONTAINERS)} per class",
        )
    ((kind, found),) = present.items()
    classes = [_columns(path, CONTAINERS[kind].images) for path in found]
    return sorted((each for each in classes if len(each)), key=lambda each: each.class_name)


def read_image(image: Image, files: ShardFiles) -> bytes:
    """The encoded bytes of an image.

    Raises:
        ShardError: its file is missing, has changed since it was listed, or is damaged.
    """
    content = files.read(image.file, image.offset, image.size)
    if image.unpacked != _NONE:
        content = _inflate(image, content)
    if image.crc32 not in (_NONE, zlib.crc32(content)):
        raise _bad_zip(image.file, f"{image.name}: another checksum than listed")
    return content


def _inflate(image: Image, content: bytes) -> bytes:
    try:
        # One byte more than there should be, and no more: a zip bomb stops here.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, image.unpacked + 1)
    except zlib.error as error:
        raise _bad_zip(image.file, f"{image.name}: {error}") from None


def _columns(path: Path, read: Callable[[Path], Iterator[Image]]) -> ClassSource:
    is_folder = path.is_dir()
    name = path.name if is_folder else path.stem
    if not name.isprintable() or name != name.strip():
        raise ShardError("a class has a name that a list cannot hold", where=repr(str(path)), fix="rename it")
    images = [image for image in read(path) if _is_image(image.name)]
    return ClassSource(
        class_name=name,
        path=path,
        is_folder=is_folder,
        names=np.array([os.fsencode(image.name) for image in images], dtype=np.bytes_),
        spans=np.array([image[2:] for image in images], dtype=np.int64).reshape(-1, 4),
    )


def _is_image(name: str) -> bool:
    base = name.rpartition("/")[2]
    return not base.startswith(".") and _suffix(base) in IMAGE_SUFFIXES


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _folder_images(folder: Path) -> Iterator[Image]:
    for parent, inner, names in os.walk(folder):
        inner.sort()
        for name in sorted(names):
            path = Path(parent, name)
            if _is_image(name):
                size = path.stat().st_size
                yield Image(path, path.relative_to(folder).as_posix(), 0, size)


def _tar_images(tar: Path) -> Iterator[Image]:
    with ShardFiles() as files:
        for member in tar_members(files, tar):
            yield Image(tar, member.name, member.offset, member.size)


def _zip_images(path: Path) -> Iterator[Image]:
    try:
        with zipfile.ZipFile(path) as archive, ShardFiles() as files:
            for entry in archive.infolist():
                if not entry.is_dir() and _is_image(entry.filename):
                    yield _zip_image(path, entry, files)
    except (zipfile.BadZipFile, OSError, NotImplementedError, struct.error) as error:
        raise _bad_zip(path, str(error)) from None


def _zip_image(path: Path, entry: zipfile.ZipInfo, files: ShardFiles) -> Image:
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _bad_zip(path, f"{entry.filename} is encrypted or packed by another method than deflate")
    header = files.read(path, entry.header_offset, _LOCAL_HEADER.size)
    offset = entry.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header))
    unpacked = _NONE if entry.compress_type == zipfile.ZIP_STORED else entry.file_size
    return Image(path, entry.filename, offset, entry.compress_size, unpacked, entry.CRC)


def _bad_zip(path: Path, found: str) -> ShardError:
    return ShardError("cannot read a zip of images", where=str(path), found=found, fix="copy it again, or repack it")


class Container(NamedTuple):
    """What the images of one class can come in."""

    holds: Callable[[Path], bool]  # whether a path is one
    images: Callable[[Path], Iterator[Image]]  # where the images in it lie


CONTAINERS: dict[str, Container] = {
    "folder": Container(Path.is_dir, _folder_images),
    "tar": Container(lambda path: path.suffix == ".tar", _tar_images),
    "zip": Container(lambda path: path.suffix == ".zip", _zip_images),
}
"""By name, for messages: the one table to add a source of images to."""
