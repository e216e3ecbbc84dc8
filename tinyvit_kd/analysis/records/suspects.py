"""Samples whose label the teacher contradicts in most views, and with confidence: likely mistakes in the labels.

A view counts as contradicted if its best class is not the label. Of a mixed view, which shows two images, the labels
of both are taken for right, and it counts only if the sample's own image has the larger weight.

Memory is bounded by one shard's block and 8 bytes per sample and view of it, per process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tinyvit_kd.analysis.records.record_figures import Int64
from tinyvit_kd.analysis.records.store_blocks import Task, read_blocks, worth_processes
from tinyvit_kd.analysis.records.store_labels import StoreLabels
from tinyvit_kd.analysis.records.suspect_sums import LabelSums, leading_class
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.known_labels import UNKNOWN, own_weights
from tinyvit_kd.runtime.log import progress_bar
from tinyvit_kd.runtime.parallel import run_parallel
from tinyvit_kd.store.check import shards_with_samples
from tinyvit_kd.store.names import array_name, block_name
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.mixing import partners

OWN_WEIGHT = 0.5  # of a sample's image in a mixed view, from which on the view counts


@dataclass(frozen=True)
class Thresholds:
    """When a sample is suspect: all of these must hold.

    Attributes:
        contradicted: least fraction of its views whose best class is not the label.
        label_probability: largest mean probability of the label.
        teacher_probability: least mean probability of the class that the teacher names instead.
        views: least number of views that count; of a store with fewer, all.
    """

    contradicted: float = 0.8
    label_probability: float = 0.1
    teacher_probability: float = 0.3
    views: int = 2

    def contradict(self, sums: LabelSums, views: int) -> npt.NDArray[np.bool_]:
        """Whether all but the last threshold, of the teacher's class, hold for each sample: [n].

        Args:
            views: of the store.
        """
        counts = np.maximum(sums.views, 1)
        # Fractions, as they are told, not their products: 7 of 50 views are 0.14, but 0.14 * 50 is more than 7.
        return (
            (sums.views >= max(1, min(self.views, views)))
            & (sums.contradicted / counts >= self.contradicted)
            & (sums.of_label / counts <= self.label_probability)
        )


@dataclass(frozen=True)
class Suspect:
    """A sample whose label the teacher contradicts.

    Attributes:
        shard, index: number of its shard, and its index there.
        key: of the sample.
        label: as a class of the teacher.
        teacher_class: besides the label, the class that is the best one in most views.
        views: that count.
        contradicted: of these, those whose best class is not the label.
        label_probability: of the label, mean over the views; where it is not among the top K, the most that it can be:
            the smaller one of the residual and the smallest stored probability.
        label_not_stored: views where it is not among the top K, so that the mean is an upper bound.
        teacher_probability: of the teacher's class, mean over the views; 0 is counted where another class is ahead of
            it, so that the mean is a lower bound.
    """

    shard: int
    index: int
    key: str
    label: int
    teacher_class: int
    views: int
    contradicted: int
    label_probability: float
    label_not_stored: int
    teacher_probability: float

    @property
    def sureness(self) -> float:
        """By how much the teacher prefers its class to the label; the order of suspects."""
        return self.teacher_probability - self.label_probability


@dataclass
class Suspects:
    """What was found.

    Attributes:
        found: the surest ones first.
        samples: those that have a label and a view that counts, suspect or not.
        unlabelled: those without a label that the teacher knows.
        blocks: that were read.
        missing: blocks that have not been dumped.
        unread: locations of blocks that are damaged or cannot be read, and what is wrong with each.
    """

    found: list[Suspect] = field(default_factory=list)
    samples: int = 0
    unlabelled: int = 0
    blocks: int = 0
    missing: int = 0
    unread: list[tuple[str, str]] = field(default_factory=list)

    def add(self, other: Suspects) -> None:
        """Add what was found elsewhere in the store, in no order."""
        self.found += other.found
        self.samples += other.samples
        self.unlabelled += other.unlabelled
        self.blocks += other.blocks
        self.missing += other.missing
        self.unread += other.unread


def find_suspects(store: LogitStore, labels: StoreLabels, thresholds: Thresholds, processes: int) -> Suspects:
    """Read the whole store, a shard per process at a time.

    Args:
        labels: as ``find_labels`` gives them, of shards.

    Raises:
        ConfigError: the labels, or the keys of the samples, are not known; or the store is of a later version.
    """
    if labels.known.shards is None:
        raise ConfigError(
            "suspects are samples of which keys and labels are known, and those of this store's are not",
            where=store.where,
            found=f"labels {labels.source}",
            fix="name the shards that the store was dumped from (--shards) and, if it is not beside them, the class "
            "list of their labels (--class-list)",
        )
    shards = shards_with_samples(store)
    suspects = Suspects()
    finder = _Finder(store, labels, validate(ViewSpec, store.manifest.view_spec, store.where), thresholds)
    with progress_bar(None, len(shards), "shard", label="store suspects") as bar:
        every = ((shard, view) for shard in shards for view in range(store.manifest.views))
        workers = worth_processes(store, every, min(processes, len(shards)))
        for found in run_parallel(finder, shards, workers):
            suspects.add(found)
            bar.update()
    suspects.found.sort(key=lambda each: (-each.sureness, each.shard, each.index))
    return suspects


class _Finder:
    """Finds the suspects of a shard; importable, so that processes can share the work."""

    def __init__(self, store: LogitStore, labels: StoreLabels, spec: ViewSpec, thresholds: Thresholds) -> None:
        self.store, self.labels, self.spec, self.thresholds = store, labels, spec, thresholds

    def __call__(self, shard: int) -> Suspects:
        """The suspects of one shard, by index."""
        labels = self.labels.of_shard(shard)
        listed = {entry.name for entry in self.store.storage.list(array_name(shard)) if entry.kind == "file"}
        present = [view for view in range(self.store.manifest.views) if block_name(shard, view) in listed]
        result = Suspects(missing=self.store.manifest.views - len(present))
        sums = LabelSums(labels, len(present))
        for number, read in enumerate(read_blocks(self.store, Task(shard, tuple(present), True), result.unread)):
            result.blocks += 1
            sums.add(number, read.block, *self._mixes(shard, read.view, labels))
        result.samples = int((sums.views > 0).sum())
        result.unlabelled = int((labels < 0).sum())
        result.found = list(self._suspects(shard, sums))
        return result

    def _mixes(self, shard: int, view: int, labels: Int64) -> tuple[Int64, npt.NDArray[np.bool_]]:
        """Labels of the images that views are mixed with, [n], and whether a view counts, [n]."""
        count, seed = len(labels), self.store.manifest.seed
        if not self.spec.mixes:
            return np.full(count, UNKNOWN, np.int64), np.ones(count, np.bool_)
        weights = own_weights(shard, view, count, self.spec, seed)
        partner = partners(seed, shard, view, count)
        of_partner = np.where((weights < 1) & (partner >= 0), labels[partner], UNKNOWN)
        # A partner whose label is not known may be what the teacher names.
        return of_partner, (weights == 1) | ((weights >= OWN_WEIGHT) & (of_partner >= 0))

    def _suspects(self, shard: int, sums: LabelSums) -> Iterator[Suspect]:
        views = np.maximum(sums.views, 1)
        candidates = self.thresholds.contradict(sums, self.store.manifest.views)
        assert self.labels.known.shards is not None
        index = self.labels.known.shards.index(shard)
        for row in np.flatnonzero(candidates).tolist():
            number, total = leading_class(sums.others[:, row], sums.of_others[:, row])
            mean = total / int(views[row])
            if number >= 0 and mean >= self.thresholds.teacher_probability:
                yield Suspect(
                    shard=shard,
                    index=row,
                    key=index.key(row),
                    label=int(sums.labels[row]),
                    teacher_class=number,
                    views=int(sums.views[row]),
                    contradicted=int(sums.contradicted[row]),
                    label_probability=float(sums.of_label[row] / views[row]),
                    label_not_stored=int(sums.not_stored[row]),
                    teacher_probability=mean,
                )
