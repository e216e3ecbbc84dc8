"""Collects the images that a table or list names, and divides them by class."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xxhash

from tinyvit_kd.data.building.class_source import UNLABELLED, ClassSource, require_a_line
from tinyvit_kd.data.building.source_image import NONE
from tinyvit_kd.data.labels.sample_labels import Value

_KEPT = 4  # names of images without labels: one more than messages show


@dataclass
class Rows:
    """The images of one split, in the order in which they are listed.

    Args:
        path: the source; where the images are files of their own, the folder that their names are relative to.
        column: the column of the tables that holds them; empty: they lie at places in files.
        own_files: whether the images are files of their own.

    Attributes:
        first_unlabelled: the first images without a label, by name, with what is there in its place.
    """

    path: Path
    column: str = ""
    own_files: bool = False
    files: list[Path] = field(default_factory=list)
    first_unlabelled: list[str] = field(default_factory=list)
    _names: list[bytes] = field(default_factory=list)
    _keys: list[bytes] = field(default_factory=list)
    _places: array[int] = field(default_factory=lambda: array("q"))  # offset and size of each
    _extras: array[int] = field(default_factory=lambda: array("q"))  # unpacked size and checksum of each
    _file_numbers: array[int] = field(default_factory=lambda: array("L"))
    _classes: array[int] = field(default_factory=lambda: array("L"))
    _labels: dict[Value, int] = field(default_factory=dict)

    @classmethod
    def of_images(cls, path: Path) -> Rows:
        """None yet, of the images in a folder, or of those in an archive."""
        return cls(path, own_files=True) if path.is_dir() else cls(path, files=[path])

    def add(
        self,
        name: str,
        label: Value,
        place: tuple[int, int, int, int] | tuple[int, int],
        key: str = "",
        instead: str = "",
    ) -> None:
        """Take an image; those that are no files of their own lie in the last of ``files``.

        Args:
            name: of the image.
            label: its class's name or number; None: it has none.
            place: offset, size and, of a zip's member, unpacked size and checksum.
            key: of the sample; all have one, or none has.
            instead: what is there in place of a label, for people.
        """
        if label is None and len(self.first_unlabelled) < _KEPT:
            self.first_unlabelled.append(f"{name} ({instead})" if instead else name)
        self._names.append(os.fsencode(name))
        self._classes.append(self._labels.setdefault(label, len(self._labels)))
        self._places.extend(place[:2])
        self._extras.extend(place[2:] or (NONE, NONE))
        self._file_numbers.append(max(0, len(self.files) - 1))
        if key:
            self._keys.append(os.fsencode(key))

    def __len__(self) -> int:
        return len(self._names)

    @property
    def are_numbers(self) -> bool:
        """Whether every label is a number."""
        return bool(self._labels) and all(isinstance(label, int) for label in self._labels)

    @property
    def unlabelled(self) -> int:
        """How many images have no label."""
        return self.counts().get(None, 0)

    def counts(self) -> dict[Value, int]:
        """How many images have each label."""
        counts = Counter(self._classes)
        return {label: counts[number] for label, number in self._labels.items()}

    def repeated(self) -> tuple[int, int]:
        """How many files are listed more than once, and how many of these with different labels."""
        if not self.own_files:
            return 0, 0
        hashes = (xxhash.xxh3_64_intdigest(os.path.normpath(name)) for name in self._names)  # of millions of paths
        paths = np.fromiter(hashes, np.uint64, len(self._names))
        values, counts = np.unique(paths, return_counts=True)
        often = values[counts > 1]
        rows = np.flatnonzero(np.isin(paths, often)).tolist()
        pairs = {(int(paths[row]), self._classes[row]) for row in rows}
        return len(often), sum(count > 1 for count in Counter(path for path, _ in pairs).values())

    def classes(self) -> list[ClassSource]:
        """The images by class; within a class in the order in which they are listed."""
        numbers = np.frombuffer(self._classes, dtype=f"u{self._classes.itemsize}")
        order = np.argsort(numbers, kind="stable")
        ends = np.searchsorted(numbers[order], np.arange(len(self._labels)), side="right")
        names, keys = np.array(self._names, dtype=np.bytes_), np.array(self._keys, dtype=np.bytes_)
        extents = np.empty((len(names), 4), dtype=np.int64)
        extents[:, :2] = np.array(self._places, dtype=np.int64).reshape(-1, 2)
        extents[:, 2:] = np.array(self._extras, dtype=np.int64).reshape(-1, 2)
        file_numbers = np.array(self._file_numbers, dtype=np.uint32)
        found = []
        for label, chosen in zip(self._labels, np.split(order, ends[:-1]), strict=True):
            name = UNLABELLED if label is None else str(label)
            require_a_line(name, self.path)
            source = ClassSource(
                class_name=name,
                path=self.path,
                is_folder=self.own_files,
                names=names[chosen],
                extents=extents[chosen],
                files=tuple(self.files),
                file_numbers=file_numbers[chosen] if self.files else np.empty(0, dtype=np.uint32),
                keys=keys[chosen] if len(keys) else keys,
                column=self.column,
            )
            found.append(source)
        return sorted(found, key=lambda each: each.class_name)
