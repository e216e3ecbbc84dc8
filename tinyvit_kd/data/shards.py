"""Shard sets, and random access to their samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit_kd.data.class_list import ClassList, load_class_list
from tinyvit_kd.data.index import NO_LABEL, Int64, ShardIndex
from tinyvit_kd.data.index_file import load_index
from tinyvit_kd.data.locate import locate
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.watchdog import doing

CLASS_LIST_FILE = "classes.txt"
_INDEXES = 256  # held by a reader: a lane touches two shards at a time, and a rank may own 64 lanes


@dataclass(frozen=True, eq=False)
class ShardSet:
    """An ordered list of shards with their lengths."""

    name: str
    split: str | None
    names: tuple[str, ...]  # of the shards
    lengths: Int64  # [shards], samples
    class_list: ClassList | None  # of the labels: classes.txt beside the shards
    locations: tuple[str, ...]  # a path or URL for each shard
    cache_dir: Path | None = None
    index_dir: Path | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        split: str | None = None,
        *,
        cache_dir: Path | None = None,
        index_dir: Path | None = None,
    ) -> ShardSet:
        """Open a shard set; without an ``_info.json`` this fetches and indexes all of it.

        Args:
            path: folder with timm's ``_info.json``, brace pattern, glob, one tar, or a URL of these.
            split: split named in ``_info.json``; none: the only one.
            cache_dir: where shards from URLs are kept.
            index_dir: where byte indexes are kept; none: beside the shards.

        Raises:
            ShardError: the shards are missing, compressed, truncated or damaged.
            ConfigError: ``split`` or the pattern is wrong.
        """
        found = locate(str(path), split)
        lengths = found.lengths
        if lengths is None:
            files = ShardFiles(cache_dir)
            lengths = tuple(len(_load_index(location, index_dir, files)) for location in found.locations)
            files.close()
        return cls(
            name=found.name,
            split=found.split,
            names=found.names,
            lengths=np.array(lengths, dtype=np.int64),
            class_list=_classes_beside(found.folder),
            locations=found.locations,
            cache_dir=cache_dir,
            index_dir=index_dir,
        )

    @property
    def total(self) -> int:
        """Samples of the whole set."""
        return int(self.lengths.sum())

    def files(self) -> ShardFiles:
        """What reads the shards; each process, and each thread, needs its own."""
        return ShardFiles(self.cache_dir)

    def index(self, shard: int, files: ShardFiles | None = None) -> ShardIndex:
        """The shard's byte index, made first where it is missing.

        Args:
            files: what reads the shard; None: it is opened for this call alone.

        Raises:
            ShardError: the shard holds another number of samples than ``_info.json`` says, or cannot be read.
        """
        if files is None:
            with self.files() as files:
                return self.index(shard, files)
        index = _load_index(self.locations[shard], self.index_dir, files)
        if len(index) != self.lengths[shard]:
            raise ShardError(
                "a shard does not hold as many samples as its shard set says",
                where=self.locations[shard],
                found=f"{len(index):,} samples",
                expected=f"{self.lengths[shard]:,}, from _info.json",
                fix="correct _info.json, or restore the shard; samples without an image do not count",
            )
        return index

    def key_hashes(self) -> list[int]:
        """For each shard, 64 bits over its samples' keys and image sizes; makes missing indexes."""
        return [summary.key_hash for summary in self._summaries]

    def label_hashes(self) -> list[int]:
        """For each shard, 64 bits over its samples' labels; makes missing indexes."""
        return [summary.label_hash for summary in self._summaries]

    def largest_label(self) -> int:
        """Of all samples, -1 where none has a label; makes missing indexes."""
        return max((summary.largest_label for summary in self._summaries), default=NO_LABEL)

    @cached_property
    def _summaries(self) -> tuple[_Summary, ...]:
        """Of all indexes, each of which is opened once."""
        return tuple(_summary(self.index(shard)) for shard in range(len(self.names)))

    def reader(self) -> ShardReader:
        """Random access to the samples."""
        return ShardReader(self)


class _Summary(NamedTuple):
    key_hash: int
    label_hash: int
    largest_label: int


def _summary(index: ShardIndex) -> _Summary:
    return _Summary(index.key_hash, index.label_hash, int(index.labels.max(initial=NO_LABEL)))


class ShardReader:
    """Random access to the samples of a shard set.

    Files and indexes are opened when they are first needed, the last few hundred are kept. A reader may be
    forked or pickled; within a process it is for one thread.
    """

    def __init__(self, shards: ShardSet) -> None:
        self.shards = shards
        self._files = shards.files()
        self._index = lru_cache(_INDEXES)(shards.index)

    def read(self, shard: int, index: int) -> bytes:
        """The encoded image of one sample.

        Raises:
            ShardError: the shard is missing, damaged, or has changed since it was opened.
        """
        assert index >= 0
        table = self._index(shard)
        location = self.shards.locations[shard]
        doing(f"reading sample {index} of {location}")
        return self._files.read(location, int(table.offsets[index]), int(table.sizes[index]))

    def key(self, shard: int, index: int) -> str:
        """The key of one sample."""
        return self._index(shard).key(index)

    def name(self, shard: int) -> str:
        """The name of one shard."""
        return self.shards.names[shard]

    def labels(self, shard: int, indexes: npt.NDArray[np.integer]) -> Int64:
        """Labels of samples of one shard: int64 [n], -1 where there is none."""
        labels: Int64 = self._index(shard).labels[indexes]
        return labels

    def __reduce__(self) -> tuple[Callable[[ShardSet], ShardReader], tuple[ShardSet]]:
        return ShardReader, (self.shards,)


def _classes_beside(folder: Path | None) -> ClassList | None:
    if folder is None or not (folder / CLASS_LIST_FILE).is_file():
        return None
    return load_class_list(str(folder / CLASS_LIST_FILE))


def _load_index(location: str, index_dir: Path | None, files: ShardFiles) -> ShardIndex:
    doing(f"opening {location} and its index")
    return load_index(location, index_dir, files)
