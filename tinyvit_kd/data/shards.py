"""Shard sets, and reading their samples in any order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit_kd.data.indexing.index import Int64, ShardIndex
from tinyvit_kd.data.indexing.index_file import load_index
from tinyvit_kd.data.indexing.summaries import LabelCounts, Summaries, Summary, summary_of
from tinyvit_kd.data.labels.class_list import ClassList, load_class_list
from tinyvit_kd.data.labels.text_labels import NO_TEXTS, LabelRule
from tinyvit_kd.data.locating.locate import ShardListing, locate_shards
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.watchdog import doing

CLASS_LIST_FILE = "classes.txt"
_KEPT_TABLES = 256  # by a reader: a lane reads two shards at a time, and a rank may own 64 lanes


@dataclass(frozen=True, eq=False)
class ShardSet:
    """An ordered list of shards with their lengths."""

    name: str
    split: str | None
    names: tuple[str, ...]  # of the shards
    lengths: Int64  # [shards], samples per shard
    class_list: ClassList | None  # of the labels: the one that was named, else classes.txt beside the shards
    locations: tuple[str, ...]  # a path or URL per shard
    cache_dir: Path | None = None
    index_dir: Path | None = None
    label_key: str | None = None  # the field of .json that is the label
    first_label: int = 0  # number of the first class in the files
    known: Summaries | None = field(default=None, repr=False)  # if all shards have been indexed

    @classmethod
    def load(
        cls,
        path: str | Path,
        split: str | None = None,
        *,
        cache_dir: Path | None = None,
        index_dir: Path | None = None,
        class_list: str | None = None,
        label_key: str | None = None,
        first_label: int = 0,
        on_shard: Callable[[int, int], None] | None = None,
    ) -> ShardSet:
        """Open a shard set; without an ``_info.json`` this fetches and indexes all of its shards.

        Args:
            path: a folder with timm's ``_info.json``, a brace pattern, a glob, one tar, or a URL of any of these.
            split: a split named in ``_info.json``; None: the only one.
            cache_dir: where shards from URLs are kept.
            index_dir: where byte indexes are kept; None: beside the shards.
            class_list: the labels' class list, as ``load_class_list`` takes it; None: classes.txt beside the shards.
            label_key: the field of ``.json`` that is the label, with dots for nested ones; None: the usual ones.
            first_label: the number of the first class; 1 for labels that count from 1.
            on_shard: index all shards now, and call this after each with (indexed shards, all shards).

        Raises:
            ShardError: the shards are missing, compressed, truncated or damaged.
            ConfigError: ``split`` or the pattern is wrong.
        """
        shards, described = cls.located(
            path,
            split,
            cache_dir=cache_dir,
            index_dir=index_dir,
            class_list=class_list,
            label_key=label_key,
            first_label=first_label,
        )
        return shards if described and on_shard is None else shards.indexed(shards.summaries(on_shard))

    @classmethod
    def located(
        cls, path: str | Path, split: str | None = None, *, cache_dir: Path | None = None, **options: Any
    ) -> tuple[ShardSet, bool]:
        """The shards that ``path`` names, of which none is opened; and whether ``_info.json`` says their lengths.

        Its arguments are those of ``load``.
        """
        listing = locate_shards(str(path), split, cache_dir)
        return cls.listed(listing, cache_dir=cache_dir, **options), listing.lengths is not None

    @classmethod
    def listed(cls, listing: ShardListing, *, class_list: str | None = None, **options: Any) -> ShardSet:
        """A shard set as ``_info.json`` describes it, without lengths where there is none; nothing is indexed.

        Args:
            class_list: as for ``load``.
            options: further fields of the set.
        """
        return cls(
            name=listing.name,
            split=listing.split,
            names=listing.names,
            lengths=np.array(listing.lengths or (), dtype=np.int64),
            class_list=_classes_beside(listing.folder) if class_list is None else load_class_list(class_list),
            locations=listing.locations,
            **options,
        )

    def indexed(self, known: Summaries | Iterable[Summary]) -> ShardSet:
        """The same set, with what the indexes of all its shards say."""
        summaries = known if isinstance(known, Summaries) else Summaries.of(self.names, known)
        return replace(self, lengths=summaries.samples, known=summaries)

    @property
    def total(self) -> int:
        """Number of samples in the whole set."""
        return int(self.lengths.sum())

    def files(self) -> ShardFiles:
        """Opens the shards' files; each process and each thread needs one of its own."""
        return ShardFiles(self.cache_dir)

    def index(self, shard: int, files: ShardFiles | None = None) -> ShardIndex:
        """The shard's byte index, which is made if it is missing. Its labels are classes: texts are looked up.

        Args:
            files: reads the shard; by default a ``ShardFiles`` for this call alone.

        Raises:
            ShardError: the shard has another number of samples than ``_info.json`` says, or cannot be read.
        """
        if files is None:
            with self.files() as files:
                return self.index(shard, files)
        index = self._raw_index(shard, files)
        if len(self.lengths) and len(index) != self.lengths[shard]:
            raise ShardError(
                "a shard does not hold as many samples as its shard set says",
                where=self.locations[shard],
                found=f"{len(index):,} samples",
                expected=f"{self.lengths[shard]:,}, from _info.json",
                fix="correct _info.json, or restore the shard; samples without an image do not count",
            )
        index = self.labelled(index)
        if self.known is not None:
            self.known.require_same(shard, index, self.locations[shard])
        return index

    def labelled(self, index: ShardIndex) -> ShardIndex:
        """An index as it is in its file, with classes for labels: texts are looked up."""
        return replace(index, labels=self.label_rule.apply(index.labels, index.texts), texts=NO_TEXTS)

    @property
    def label_rule(self) -> LabelRule:
        """How labels in the files become classes."""
        return LabelRule(self.class_list, self.first_label)

    def _raw_index(self, shard: int, files: ShardFiles) -> ShardIndex:
        location = self.locations[shard]
        doing(f"opening {location} and its index")
        return load_index(location, self.index_dir, files, self.label_key)

    def key_hashes(self) -> list[int]:
        """Per shard, 64 bits over its samples' keys and image sizes; missing indexes are made."""
        hashes: list[int] = self._summaries.key_hash.tolist()
        return hashes

    def label_hashes(self) -> list[int]:
        """Per shard, 64 bits over its samples' labels; missing indexes are made."""
        hashes: list[int] = self._summaries.label_hash.tolist()
        return hashes

    def label_counts(self) -> LabelCounts:
        """How many samples have a label, and the smallest and largest one; missing indexes are made."""
        return self._summaries.labels

    def first_unlabelled(self) -> str:
        """The first sample without a label and what was found in its place, for people; empty if all have one."""
        for shard in np.flatnonzero(self._summaries.unlabelled).tolist():
            return self.why_unlabelled(shard, int(np.argmax(self.index(shard).labels < 0)))
        return ""

    def why_unlabelled(self, shard: int, number: int) -> str:
        """A sample without a label and what was found in its place, for people, as far as its index says."""
        with self.files() as files:
            raw = self._raw_index(shard, files)
        why = self.label_rule.why_none(number, int(raw.labels[number]), raw.texts)
        return f"{self.names[shard]}:{raw.key(number)}: {why}"

    @property
    def image_bytes(self) -> int:
        """Bytes of all images together; missing indexes are made."""
        return int(self._summaries.image_bytes.sum())

    def empty_shards(self) -> list[str]:
        """Names of the shards that hold no sample."""
        return [name for name, length in zip(self.names, self.lengths.tolist(), strict=True) if not length]

    def leftovers(self) -> Leftovers:
        """What is in the shards and in no sample; missing indexes are made."""
        return self._summaries.leftovers

    def summaries(self, on_shard: Callable[[int, int], None] | None = None) -> Iterator[Summary]:
        """Each shard in numbers, one after the other; missing indexes are made, and only one is held at a time.

        Args:
            on_shard: called after each shard with (finished shards, all shards).
        """
        with self.files() as files:
            for shard in range(len(self.names)):
                yield summary_of(self.index(shard, files))
                if on_shard is not None:
                    on_shard(shard + 1, len(self.names))

    @cached_property
    def _summaries(self) -> Summaries:
        # Cached, so that each index is read once.
        return self.known if self.known is not None else Summaries.of(self.names, self.summaries())

    def reader(self, shards_at_a_time: int = 0) -> ShardReader:
        """Reads the samples in any order.

        Args:
            shards_at_a_time: how many shards samples are taken from in turn, if they may be more than a few hundred.
        """
        return ShardReader(self, shards_at_a_time)


class _Table(NamedTuple):
    """What reading samples takes of an index, in a third of its memory: arrays [n], of the smallest types that do."""

    offsets: npt.NDArray[np.integer]
    sizes: npt.NDArray[np.integer]
    labels: npt.NDArray[np.integer]


class ShardReader:
    """Reads the samples of a shard set in any order.

    Files and tables of samples are opened when they are first needed, and kept: a few hundred, or as many tables as
    ``shards_at_a_time`` says. A reader may be forked or pickled. Within a process, only one thread may use it.
    """

    def __init__(self, shards: ShardSet, shards_at_a_time: int = 0) -> None:
        self.shards = shards
        self.shards_at_a_time = shards_at_a_time
        self._files = shards.files()
        self._table = lru_cache(max(_KEPT_TABLES, shards_at_a_time))(self._read_table)

    def read(self, shard: int, index: int) -> bytes:
        """The encoded image of one sample.

        Raises:
            ShardError: the shard is missing, damaged, or has changed since it was opened.
        """
        assert index >= 0
        table = self._table(shard)
        location = self.shards.locations[shard]
        doing(f"reading sample {index} of {location}")
        return self._files.read(location, int(table.offsets[index]), int(table.sizes[index]))

    def key(self, shard: int, index: int) -> str:
        """The key of one sample."""
        return self.shards.index(shard, self._files).key(index)

    def name(self, shard: int) -> str:
        """The name of one shard."""
        return self.shards.names[shard]

    def labels(self, shard: int, indexes: npt.NDArray[np.integer]) -> Int64:
        """The labels of samples of one shard: int64 [n], -1 if there is none."""
        labels: Int64 = self._table(shard).labels[indexes].astype(np.int64)
        return labels

    def _read_table(self, shard: int) -> _Table:
        index = self.shards.index(shard, self._files)
        return _Table(*(_smallest(column) for column in (index.offsets, index.sizes, index.labels)))

    def __reduce__(self) -> tuple[Callable[[ShardSet, int], ShardReader], tuple[ShardSet, int]]:
        return ShardReader, (self.shards, self.shards_at_a_time)


def _smallest(values: Int64) -> npt.NDArray[np.integer]:
    """The same numbers in the smallest type of integers that holds them: [n]."""
    lowest, highest = int(values.min(initial=0)), int(values.max(initial=0))
    return values.astype(np.promote_types(np.min_scalar_type(lowest), np.min_scalar_type(highest)))


def _classes_beside(folder: Path | None) -> ClassList | None:
    """The class list in the folder of a shard set; None if there is none."""
    if folder is None or not (folder / CLASS_LIST_FILE).is_file():
        return None
    return load_class_list(str(folder / CLASS_LIST_FILE))
