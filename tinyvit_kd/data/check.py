"""Reads every sample of a shard set once and reports what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import xxhash

from tinyvit_kd.data.indexing.index import ShardIndex
from tinyvit_kd.data.labels.label_order import LabelOrder
from tinyvit_kd.data.labels.sample_labels import NO_LABEL
from tinyvit_kd.data.read_ahead import reading_ahead
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.errors import ShardError, TinyVitKdError
from tinyvit_kd.runtime.parallel import run_parallel


@dataclass
class CheckReport:
    """What is wrong with a shard set; samples are named ``shard:key``."""

    samples: int = 0  # in the indexes of the shards
    shards: int = 0
    undecodable: list[tuple[str, str]] = field(default_factory=list)  # sample, reason
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # shard or sample, reason
    duplicate_keys: list[str] = field(default_factory=list)  # all samples whose key another sample has, too
    missing_labels: list[str] = field(default_factory=list)
    first_unlabelled: str = ""  # and what it has instead
    unlabelled: int = 0  # samples without labels of a set that has none on purpose
    labels_out_of_range: list[tuple[str, int]] = field(default_factory=list)  # sample, label
    label_order: LabelOrder = field(default_factory=LabelOrder)  # is no fault: training has to know of it
    empty_shards: list[str] = field(default_factory=list)
    leftovers: Leftovers = field(default_factory=Leftovers)  # files of the tars that are in no sample

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (
            self.undecodable
            or self.unreadable
            or self.duplicate_keys
            or self.missing_labels
            or self.labels_out_of_range
            or self.empty_shards
            or self.leftovers.lost
            or self.leftovers.unknown
            or "trailing" in self.leftovers.counts
        )

    def add(self, other: CheckReport) -> None:
        """Add what was found in another shard."""
        self.samples += other.samples
        self.shards += other.shards
        self.undecodable += other.undecodable
        self.unreadable += other.unreadable
        self.duplicate_keys += other.duplicate_keys
        self.missing_labels += other.missing_labels
        self.first_unlabelled = self.first_unlabelled or other.first_unlabelled
        self.unlabelled += other.unlabelled
        self.labels_out_of_range += other.labels_out_of_range
        self.label_order.add(other.label_order)
        self.empty_shards += other.empty_shards
        self.leftovers.add("", other.leftovers)


KeyHashes = npt.NDArray[np.uint64]


def check_shards(
    shard_set: ShardSet,
    decode: Callable[[bytes], None],
    processes: int = 1,
    on_shard: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Read and decode every sample. Of shards at URLs that a storage serves, no copy is kept.

    Args:
        shard_set: the set to check. If it has a class list, labels are compared with it.
        decode: decodes an image's bytes, and raises a ``TinyVitKdError`` if it cannot. It must be importable by name.
        processes: how many shards are read at a time.
        on_shard: called after each shard with (finished shards, all shards).
    """
    report = CheckReport()
    hashes: list[KeyHashes] = []
    count = len(shard_set.names)
    for found, keys in run_parallel(partial(_check_shard, shard_set, decode), range(count), processes):
        report.add(found)
        hashes.append(keys)
        if on_shard is not None:
            on_shard(report.shards, count)
    report.duplicate_keys = _duplicates(shard_set, hashes)
    return report


def _check_shard(shard_set: ShardSet, decode: Callable[[bytes], None], shard: int) -> tuple[CheckReport, KeyHashes]:
    report = CheckReport(shards=1)
    name = shard_set.names[shard]
    location = shard_set.locations[shard]
    try:
        index = shard_set.index(shard)
    except ShardError as error:
        report.unreadable.append((name, str(error)))
        return report, np.empty(0, dtype=np.uint64)
    report.samples = len(index)
    if not len(index):
        report.empty_shards.append(name)
    if index.leftovers is None:
        report.leftovers.unknown += 1
    else:
        report.leftovers.add(name, index.leftovers)
    _check_labels(report, shard, index, shard_set)
    with shard_set.files() as files, reading_ahead(files, location) as ahead:
        for number, (offset, size) in enumerate(zip(index.offsets.tolist(), index.sizes.tolist(), strict=True)):
            sample = f"{name}:{index.key(number)}"
            try:
                content = ahead.read(location, offset, size)
            except ShardError as error:
                report.unreadable.append((sample, str(error)))
                continue
            try:
                decode(content)
            except TinyVitKdError as error:
                report.undecodable.append((sample, str(error)))
    return report, _key_hashes(index)


def _check_labels(report: CheckReport, shard: int, index: ShardIndex, shard_set: ShardSet) -> None:
    name, classes = shard_set.names[shard], shard_set.class_list
    report.label_order = LabelOrder.of(index.labels)
    missing = np.flatnonzero(index.labels == NO_LABEL).tolist()
    if shard_set.unlabelled:
        report.unlabelled = len(missing)
        missing = []
    report.missing_labels += [f"{name}:{index.key(number)}" for number in missing]
    if missing:
        report.first_unlabelled = shard_set.why_unlabelled(shard, missing[0])
    if classes is not None:
        for number in np.flatnonzero(index.labels >= len(classes.ids)).tolist():
            label = int(index.labels[number])
            report.labels_out_of_range.append((f"{name}:{index.key(number)}", label))


def _key_hashes(index: ShardIndex) -> KeyHashes:
    """64 bits per key: uint64 [n]. Millions of keys as text would not fit in memory."""
    keys = (index.raw_key(number) for number in range(len(index)))
    return np.fromiter(map(xxhash.xxh3_64_intdigest, keys), dtype=np.uint64, count=len(index))


def _duplicates(shard_set: ShardSet, hashes: list[KeyHashes]) -> list[str]:
    values, counts = np.unique(np.concatenate(hashes), return_counts=True)
    repeated = values[counts > 1]
    duplicates = []
    for shard, keys in enumerate(hashes):
        numbers = np.flatnonzero(np.isin(keys, repeated, kind="sort")).tolist()
        if numbers:
            index = shard_set.index(shard)
            duplicates += [f"{shard_set.names[shard]}:{index.key(number)}" for number in numbers]
    return duplicates
