"""The images of one class of a source, as arrays: there may be millions."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit_kd.data.building.source_image import Image
from tinyvit_kd.data.indexing.index import Int64
from tinyvit_kd.errors import ShardError

UNLABELLED = ""
"""Stands for the class of images that have none."""

_NO_NUMBERS = np.empty(0, dtype=np.uint32)
_NO_KEYS = np.empty(0, dtype=np.bytes_)


@dataclass(frozen=True, eq=False)
class ClassSource:
    """The images of one class, as arrays: there may be millions."""

    class_name: str
    path: Path  # the folder, tar or zip; of the rows of a table, what their paths are relative to
    is_folder: bool
    names: npt.NDArray[np.bytes_]  # [n], relative to path, or to the class's folder in an archive
    extents: Int64  # [n, 4]: offset, size, unpacked size and CRC-32 of each image, as in ``Image``
    archives: int = 0  # in it, which are not looked into
    others: int = 0  # files and folders in it that are left out for another reason
    files: tuple[Path, ...] = ()  # that hold the images, where they are neither ``path`` nor files of their own
    file_numbers: npt.NDArray[np.uint32] = field(default_factory=lambda: _NO_NUMBERS)  # [n] or [0], into ``files``
    keys: npt.NDArray[np.bytes_] = field(default_factory=lambda: _NO_KEYS)  # [n], or [0]: samples are numbered
    column: str = ""  # of a table, which holds the images; their offsets are numbers of rows then

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The name of one image."""
        return os.fsdecode(bytes(self.names[index]))

    def key(self, index: int) -> str:
        """The key of one image's sample; empty if samples are numbered."""
        return os.fsdecode(bytes(self.keys[index])) if len(self.keys) else ""

    def image(self, index: int) -> Image:
        """The place of one image's bytes."""
        name = self.name(index)
        own = self.path / name if self.is_folder else self.path
        file = self.files[self.file_numbers[index]] if self.files else own
        offset, size, unpacked_size, crc32 = self.extents[index].tolist()
        return Image(file, name, offset, size, unpacked_size, crc32, self.column)


def require_a_line(name: str, path: Path) -> bool:
    """Whether the name of a class can be a line of a class list; it is always true.

    Raises:
        ShardError: it cannot.
    """
    if name.isprintable() and name == name.strip():
        return True
    raise ShardError(
        "the name of a class cannot be a line of a class list",
        where=ascii(str(path)),
        found=ascii(name),
        expected="printable characters, without spaces at the ends",
        fix="rename it",
    )
