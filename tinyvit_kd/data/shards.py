"""Shard sets: an ordered list of shards, with what their indexes say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tinyvit_kd.data.caching.shard_cache import ShardCache
from tinyvit_kd.data.classes_beside import classes_beside
from tinyvit_kd.data.each_shard import each_shard
from tinyvit_kd.data.indexing.index import Int64, ShardIndex
from tinyvit_kd.data.indexing.index_file import IndexPlaces, load_index
from tinyvit_kd.data.indexing.summaries import LabelCounts, Summaries, Summary, summary_of
from tinyvit_kd.data.labels.class_list import ClassList, load_class_list
from tinyvit_kd.data.labels.text_labels import NO_TEXTS, LabelRule
from tinyvit_kd.data.locating.copies import INDEXES
from tinyvit_kd.data.locating.listed import ListedFiles
from tinyvit_kd.data.locating.locate import ShardListing, locate_shards
from tinyvit_kd.data.locating.served import is_served
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.log import warn_once
from tinyvit_kd.runtime.watchdog import doing


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
    cache_bytes: int | None = None  # that the copies in cache_dir may take; None: nothing is ever removed
    cache_local: bool = False  # whether shards at paths are copied, too
    index_dir: Path | None = None
    label_key: str | None = None  # the field of .json that is the label
    first_label: int = 0  # number of the first class in the files
    unlabelled: bool = False  # no sample was given a label, on purpose
    known: Summaries | None = field(default=None, repr=False)  # if all shards have been indexed

    @classmethod
    def load(
        cls,
        path: str | Path,
        split: str | None = None,
        *,
        cache_dir: Path | None = None,
        cache_bytes: int | None = None,
        cache_local: bool = False,
        index_dir: Path | None = None,
        class_list: str | None = None,
        label_key: str | None = None,
        first_label: int = 0,
        on_shard: Callable[[int, int], None] | None = None,
    ) -> ShardSet:
        """Open a shard set; without an ``_info.json`` this indexes all of its shards.

        Args:
            path: a folder with timm's ``_info.json``, a brace pattern, a glob, one tar, or a URL of any of these.
            split: a split named in ``_info.json``; None: the only one.
            cache_dir: where copies of shards are kept.
            cache_bytes: that the copies may take; None: nothing is ever removed.
            cache_local: whether shards at paths are copied, too.
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
            cache_bytes=cache_bytes,
            cache_local=cache_local,
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
            class_list=classes_beside(listing.folder) if class_list is None else load_class_list(class_list),
            locations=listing.locations,
            unlabelled=listing.unlabelled,
            **options,
        )

    def indexed(self, known: Summaries | Iterable[Summary]) -> ShardSet:
        """The same set, with what the indexes of all its shards say."""
        summaries = known if isinstance(known, Summaries) else Summaries.of(self.names, known)
        return replace(self, lengths=summaries.samples, known=summaries)

    @cached_property
    def cache(self) -> ShardCache | None:
        """The copies on this machine that samples are read from, if there are any."""
        return None if self.cache_dir is None else ShardCache(self.cache_dir, self.cache_bytes, self.cache_local)

    @property
    def total(self) -> int:
        """Number of samples in the whole set."""
        return int(self.lengths.sum())

    def files(self, listed: ListedFiles | None = None) -> ShardFiles:
        """Opens the shards' files; each process and each thread needs one of its own.

        Args:
            listed: what is known of files at URLs already.
        """
        return ShardFiles(self.cache, listed=listed)

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
        return load_index(location, self.index_places, files, self.label_key)

    @property
    def index_places(self) -> IndexPlaces:
        """Where byte indexes are kept."""
        spare_dir = None if self.cache_dir is None or self.index_dir is not None else self.cache_dir / INDEXES
        return IndexPlaces(self.index_dir, spare_dir)

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
        """Each shard in numbers, in order; missing indexes are made, and only one is held at a time, or a few of URLs.

        Args:
            on_shard: called after each shard with (finished shards, all shards).
        """
        found = each_shard(self.locations, lambda shard, files: summary_of(self.index(shard, files)), self.files)
        for done, summary in enumerate(found, 1):
            yield summary
            if on_shard is not None:
                on_shard(done, len(self.names))

    @cached_property
    def _summaries(self) -> Summaries:
        # Cached, so that each index is read once.
        return self.known if self.known is not None else Summaries.of(self.names, self.summaries())

    def reader(self, shards_at_a_time: int = 0) -> ShardReader:
        """Reads the samples in any order.

        Args:
            shards_at_a_time: how many shards samples are taken from in turn, if they may be more than a few hundred.
        """
        if self.cache_dir is None and is_served(self.locations[0]):
            warn_once(
                ("no cache", self.locations[0]),
                f"{self.name}: each sample is a request of its own, and is read again in each epoch: set "
                "shards.cache_dir (--cache-dir) to a folder on a local disk",
            )
        return ShardReader(self, shards_at_a_time)
