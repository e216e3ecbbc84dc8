"""Readers of a file of fixed records, one record at a time: how the official TinyViT code reads, and the leanest way.

The official ones are ``data/augmentation/manager.py`` and ``dataset_wrapper.py`` of github.com/microsoft/Cream.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.stored.records import KEYS, VALUES, official_type

Record = tuple[int, npt.NDArray[np.int16], npt.NDArray[np.float16]]  # seed, indices [K], probs [K]


def load_keys(folder: Path) -> dict[str, tuple[int, int]]:
    """By key: file of values, number of the record in it."""
    with (folder / KEYS).open() as lines:
        return {key.strip(): (0, number) for number, key in enumerate(lines.readlines())}


class LeanReader:
    """A look-up, one system call a record, three arrays over its bytes."""

    def __init__(self, folder: Path, topk: int, keys: dict[str, tuple[int, int]]) -> None:
        self.keys, self.topk, self.size = keys, topk, official_type(topk).itemsize
        self.file = os.open(folder / VALUES, os.O_RDONLY)

    def read(self, key: str) -> Record:
        """One record."""
        _, number = self.keys[key]
        data = os.pread(self.file, self.size, number * self.size)
        seed = int.from_bytes(data[:4], "little")
        indices = np.frombuffer(data, np.int16, self.topk, 4)
        return seed, indices, np.frombuffer(data, np.float16, self.topk, 4 + 2 * self.topk)

    def close(self) -> None:
        """Close the file of values."""
        os.close(self.file)


class OfficialReader:
    """What the official code does for a record: a look-up, seek and buffered read, copies of both arrays."""

    def __init__(self, folder: Path, topk: int, keys: dict[str, tuple[int, int]]) -> None:
        self.keys, self.topk, self.size = keys, topk, official_type(topk).itemsize
        self.file = (folder / VALUES).open("rb")

    def read(self, key: str) -> Record:
        """One record."""
        _, number = self.keys[key]
        self.file.seek(self.size * number)
        data = self.file.read(self.size)
        seed = int(np.frombuffer(data[:4], dtype=np.uint32)[0])
        data = data[4:]
        indices = np.frombuffer(data[: self.topk * 2], dtype=np.int16).copy()
        data = data[self.topk * 2 :]
        return seed, indices, np.frombuffer(data[: self.topk * 2], dtype=np.float16).copy()

    def close(self) -> None:
        """Close the file of values."""
        self.file.close()
