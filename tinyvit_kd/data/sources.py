"""Source images of a build: one folder, one tar or one zip per class."""

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

from tinyvit_kd.data.image_formats import IMAGE_SUFFIXES
from tinyvit_kd.data.index import Int64
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.data.tars import tar_members
from tinyvit_kd.errors import ShardError

_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member: lengths of its name and of its extra field
_NONE = -1  # value of fields that only some zip members have


class Image(NamedTuple):
    """The place of one image's bytes."""

    file: Path
    name: str  # relative to the folder, tar or zip of its class
    offset: int  # of the first byte in the file
    size: int  # bytes in the file
    unpacked_size: int = _NONE  # bytes once inflated; -1: not deflated
    crc32: int = _NONE  # of the unpacked bytes; -1: unknown

    @property
    def suffix(self) -> str:
        """Lower-case suffix; ``jpeg`` becomes ``jpg``, which timm's reader knows."""
        suffix = _suffix(self.name)
        return "jpg" if suffix == "jpeg" else suffix


@dataclass(frozen=True, eq=False)
class ClassSource:
    """The images of one class, as arrays: there may be millions."""

    class_name: str
    path: Path  # the folder, tar or zip
    is_folder: bool
    names: npt.NDArray[np.bytes_]  # [n], relative to path
    extents: Int64  # [n, 4]: offset, size, unpacked size and CRC-32 of each image, as in ``Image``

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Image:
        """The place of one image's bytes."""
        name = os.fsdecode(bytes(self.names[index]))
        return Image(self.path / name if self.is_folder else self.path, name, *self.extents[index].tolist())


def list_classes(source: Path) -> list[ClassSource]:
    """List the classes in a folder of class folders, class tars or class zips, sorted by name, with their images.

    Files that are not images, and classes without images, are left out.

    Raises:
        ShardError: the folder holds none of these, or more than one kind of them, or one of them cannot be read.
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
    classes = [_class_source(path, CONTAINERS[kind].images) for path in found]
    return sorted((each for each in classes if len(each)), key=lambda each: each.class_name)


def read_image(image: Image, files: ShardFiles) -> bytes:
    """Read the encoded bytes of an image.

    Raises:
        ShardError: its file is missing, has changed since it was listed, or is damaged.
    """
    content = files.read(image.file, image.offset, image.size)
    if image.unpacked_size != _NONE:
        content = _inflate(image, content)
    if image.crc32 not in (_NONE, zlib.crc32(content)):
        raise _bad_zip(image.file, f"{image.name}: its checksum is not the one in the zip's directory")
    return content


def _inflate(image: Image, content: bytes) -> bytes:
    try:
        # At most one byte more than expected, which the checksum then reveals: a zip bomb is not unpacked.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, image.unpacked_size + 1)
    except zlib.error as error:
        raise _bad_zip(image.file, f"{image.name}: {error}") from None


def _class_source(path: Path, list_images: Callable[[Path], Iterator[Image]]) -> ClassSource:
    is_folder = path.is_dir()
    name = path.name if is_folder else path.stem
    if not name.isprintable() or name != name.strip():
        raise ShardError(
            "the name of a class cannot be a line of a class list",
            where=repr(str(path)),
            expected="printable characters, without spaces at the ends",
            fix="rename it",
        )
    images = [image for image in list_images(path) if _is_image(image.name)]
    return ClassSource(
        class_name=name,
        path=path,
        is_folder=is_folder,
        names=np.array([os.fsencode(image.name) for image in images], dtype=np.bytes_),
        extents=np.array([image[2:] for image in images], dtype=np.int64).reshape(-1, 4),
    )


def _is_image(name: str) -> bool:
    base = name.rpartition("/")[2]
    return not base.startswith(".") and _suffix(base) in IMAGE_SUFFIXES


def _suffix(name: str) -> str:
    return name.rpartition(".")[2].lower()


def _folder_images(folder: Path) -> Iterator[Image]:
    for parent, folders, names in os.walk(folder):
        folders.sort()  # os.walk visits them in this order
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
        raise _bad_zip(path, f"{entry.filename} is encrypted, or compressed by another method than deflate")
    header = files.read(path, entry.header_offset, _LOCAL_HEADER.size)
    offset = entry.header_offset + _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header))
    unpacked_size = _NONE if entry.compress_type == zipfile.ZIP_STORED else entry.file_size
    return Image(path, entry.filename, offset, entry.compress_size, unpacked_size, entry.CRC)


def _bad_zip(path: Path, found: str) -> ShardError:
    return ShardError("cannot read a zip of images", where=str(path), found=found, fix="copy it again, or repack it")


class Container(NamedTuple):
    """A form in which the images of one class can be given."""

    holds: Callable[[Path], bool]  # whether a path has this form
    images: Callable[[Path], Iterator[Image]]  # lists the images in it


CONTAINERS: dict[str, Container] = {
    "folder": Container(Path.is_dir, _folder_images),
    "tar": Container(lambda path: path.suffix == ".tar", _tar_images),
    "zip": Container(lambda path: path.suffix == ".zip", _zip_images),
}
"""Containers by their name in messages; to support another one, add a line here."""
