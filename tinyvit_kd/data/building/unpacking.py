"""Images in Parquet files, which cannot be read one by one, are unpacked into files of their own for a build.

A shard takes images from everywhere, and a Parquet file gives a row by decompressing all rows around it. So the files
are read once, from beginning to end, and the images that the missing shards need are written one after the other.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from tinyvit_kd.data.building.build_output import output_folder
from tinyvit_kd.data.building.build_spec import BuildSpec, ImageAssignment
from tinyvit_kd.data.building.class_source import ClassSource
from tinyvit_kd.data.building.source_image import Image
from tinyvit_kd.data.indexing.index import Int64
from tinyvit_kd.data.source_kinds.arrow_files import batches_of, image_bytes
from tinyvit_kd.errors import ShardError
from tinyvit_kd.storage.base import Storage

_PREFIX = ".unpacked-"


class _Build(Protocol):
    @property
    def spec(self) -> BuildSpec: ...

    @property
    def sources(self) -> Sequence[ClassSource]: ...

    @property
    def missing(self) -> Sequence[int]: ...


class Unpacked:
    """Where the images of tables lie while shards are written.

    Args:
        folder: for the files.
        needed: by table and column, the rows that shards need and the size of each image, in the rows' order.
    """

    def __init__(self, folder: Path, needed: dict[tuple[Path, str], tuple[Int64, Int64]]) -> None:
        self._folder, self._needed = folder, needed
        self._files = {file: folder / f"{number}.images" for number, (file, _) in enumerate(needed)}
        self._starts = {
            file: (rows, np.concatenate([[0], np.cumsum(sizes)])) for (file, _), (rows, sizes) in needed.items()
        }

    @property
    def size(self) -> int:
        """Of all files together, bytes."""
        return sum(int(starts[-1]) for _, starts in self._starts.values())

    def fill(self) -> None:
        """Write the files.

        Raises:
            ShardError: a table has changed since it was listed.
        """
        for (file, column), (rows, sizes) in self._needed.items():
            with self._files[file].open("wb") as target:
                written = 0
                for number, content in _images(file, column):
                    if written < len(rows) and number == rows[written]:
                        if len(content) != sizes[written]:
                            break
                        target.write(content)
                        written += 1
            if written < len(rows):
                raise ShardError(
                    "a table of images has changed since it was listed",
                    where=f"{file}, row {int(rows[written]) + 1:,}",
                    fix="run the same command again",
                )

    def place_of(self, image: Image) -> Image:
        """The place of an image's bytes: of one that lies in a table, in its file."""
        if not image.column:
            return image
        rows, starts = self._starts[image.file]
        offset = int(starts[np.searchsorted(rows, image.offset)])
        return Image(self._files[image.file], image.name, offset, image.size)


@contextmanager
def unpacking(output: Storage, builds: Sequence[_Build]) -> Iterator[Unpacked]:
    """Yield what the missing shards of some builds need from tables; nothing is written yet, and all is removed later.

    The files lie in the folder of the shards, or where the system has its temporary files if that is at a URL.
    """
    needed = _needed(builds)
    folder = output_folder(output)
    if folder is not None:
        for left in folder.glob(f"{_PREFIX}*"):  # by a build that was killed
            shutil.rmtree(left, ignore_errors=True)
    if not needed:
        yield Unpacked(Path(), {})
        return
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=folder) as temporary:
        yield Unpacked(Path(temporary), needed)


def _needed(builds: Sequence[_Build]) -> dict[tuple[Path, str], tuple[Int64, Int64]]:
    found: defaultdict[tuple[Path, str], dict[int, int]] = defaultdict(dict)
    for build in builds:
        if not any(source.column for source in build.sources):
            continue
        assignment = ImageAssignment(build.spec, build.sources)
        for shard in build.missing:
            for _, _, _, image in assignment.images_of(shard):
                if image.column:
                    found[image.file, image.column][image.offset] = image.size
    return {table: _sorted(sizes) for table, sizes in sorted(found.items())}


def _sorted(sizes: dict[int, int]) -> tuple[Int64, Int64]:
    rows = np.array(sorted(sizes), dtype=np.int64)
    return rows, np.array([sizes[row] for row in rows.tolist()], dtype=np.int64)


def _images(file: Path, column: str) -> Iterator[tuple[int, memoryview]]:
    """The images in a table, with the numbers of their rows."""
    first = 0
    for batch in batches_of(file, [column]):
        for number, value in enumerate(image_bytes(batch.rows.column(column)) or ()):
            if value.is_valid:
                yield first + number, memoryview(value.as_buffer())
        first += batch.rows.num_rows
