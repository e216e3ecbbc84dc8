"""The first view of a few samples of a dump: the same ones for each teacher that is tried on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.batches.dump_batches import DumpBatch, DumpBatches
from tinyvit_kd.batches.dump_tasks import DumpTask, Group, Span
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.shards_ahead import fetching_ahead, following
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.caching.ahead import Use
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runs.known_labels import SAMPLED_SHARDS, KnownLabels, evenly, view_labels
from tinyvit_kd.runtime.seeding import hash64, permutation

HELD_OUT = 0.2  # share of the samples on which students are scored
KEPT_BYTES = 512 << 20  # of views that are kept in memory between teachers; more are made again for each
_CHOICE = 0x61756469  # distinguishes the random draws of this module
_CPU = torch.device("cpu")
Bool = npt.NDArray[np.bool_]
Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ChosenSamples:
    """Some samples of a shard set, shard by shard.

    Attributes:
        spans: of one sample each or, where views are mixed, of one pair.
        held_out: whether no student is trained on it, for each span: bool [spans].
    """

    spans: tuple[Span, ...]
    held_out: Bool

    @property
    def rows(self) -> int:
        """Number of samples."""
        return sum(span.rows for span in self.spans)

    @property
    def held_out_rows(self) -> Bool:
        """Whether a sample is held out: bool [rows]."""
        return np.repeat(self.held_out, [span.rows for span in self.spans])

    @property
    def shards(self) -> dict[int, Int64]:
        """Indexes of the samples of each shard."""
        by_shard = groupby(self.spans, lambda span: span.group.shard)
        return {shard: np.concatenate([span.indexes for span in spans]) for shard, spans in by_shard}

    def tasks(self, batch_size: int) -> list[DumpTask]:
        """The samples in batches of at most so many, or of one pair."""
        tasks: list[list[Span]] = [[]]
        for span in self.spans:
            if tasks[-1] and sum(each.rows for each in tasks[-1]) + span.rows > batch_size:
                tasks.append([])
            tasks[-1].append(span)
        return [tuple(task) for task in tasks]


def choose_samples(lengths: Sequence[int], count: int, pairs_seed: int | None, seed: int) -> ChosenSamples:
    """Choose samples at random from up to 32 shards that are spread evenly.

    Args:
        lengths: samples of each shard.
        count: how many; all of these shards' if they have fewer.
        pairs_seed: the store's seed if views are mixed, so that whole pairs are chosen; else None.
        seed: of the choice, and of which of them are held out.
    """
    filled = [shard for shard, length in enumerate(lengths) if length]
    spread = [filled[place] for place in evenly(len(filled), SAMPLED_SHARDS)]
    groups = [Group(shard, (0,), lengths[shard], pairs_seed) for shard in spread]
    unit = groups[0].unit
    ends = np.cumsum([-(-group.samples // unit) for group in groups])
    drawn = permutation(hash64(seed, _CHOICE), int(ends[-1]))[: -(-count // unit)]
    held_out = np.arange(len(drawn)) >= len(drawn) - round(HELD_OUT * len(drawn))
    order = np.argsort(drawn)
    spans = []
    for number in drawn[order].tolist():
        place = int(np.searchsorted(ends, number, side="right"))
        group = groups[place]
        start = unit * (number - (int(ends[place - 1]) if place else 0))
        spans.append(Span(group, start, min(start + unit, group.samples)))
    return ChosenSamples(tuple(spans), held_out[order])


@dataclass(frozen=True)
class FirstViews:
    """The first view of each chosen sample, for any number of teachers.

    Attributes:
        config: the dump's recipe.
        device: of the batches.
    """

    config: DumpConfig
    shards: ShardSet
    chosen: ChosenSamples
    device: torch.device
    _kept: list[DumpBatch] = field(default_factory=list, init=False, repr=False)

    @contextmanager
    def batches(self) -> Iterator[Iterator[DumpBatch]]:
        """All views once, in the order of the samples; the last rows of a batch may be padding.

        They are made anew each time, unless all of them take no more than ``KEPT_BYTES``.

        Raises:
            ShardError, TransformError, WorkerError, StalledError: see ``loading``; with ``on_bad_image: error``, an
                image cannot be decoded.
        """
        if self._kept:
            yield (batch._replace(views=batch.views.to(self.device)) for batch in self._kept)
            return
        config = self.config
        size = max(min(config.batch_size, self.chosen.rows), self.chosen.spans[0].group.unit)
        samples = SampleViews(self.shards.reader(), config.views, config.store.seed)
        maker = DumpBatches(samples, config.on_bad_image, size)
        tasks = self.chosen.tasks(size)
        with (
            fetching_ahead(self.shards) as ahead,
            loading(
                maker, following(ahead, tasks, self._uses(tasks), config.runtime), config.runtime, self.device
            ) as batches,
        ):
            yield batches if len(tasks) * maker.layout.nbytes > KEPT_BYTES else self._keeping(batches)

    def labels(self, known: KnownLabels) -> Int64:
        """The label of each view as a class of a teacher: int64 [rows], -1 where it is not known."""
        if known.shards is None:
            return np.full(self.chosen.rows, -1)
        spec, seed = self.config.views, self.config.store.seed
        of_shards = [
            view_labels(
                known.of_shard(shard), indexes, shard, 0, int(self.shards.lengths[shard]), spec, seed, len(indexes)
            )
            for shard, indexes in self.chosen.shards.items()
        ]
        return np.concatenate(of_shards)

    def _keeping(self, batches: Iterator[DumpBatch]) -> Iterator[DumpBatch]:
        kept = []
        for batch in batches:
            kept.append(batch._replace(views=batch.views.to(_CPU, copy=True)))
            yield batch
        self._kept.extend(kept)  # not before all are there

    def _uses(self, tasks: Sequence[DumpTask]) -> Iterator[Use]:
        """From which to which batch each shard is read."""
        numbered = ((span.group.shard, number) for number, task in enumerate(tasks) for span in task)
        for shard, uses in groupby(numbered, lambda each: each[0]):
            numbers = [number for _, number in uses]
            yield Use(numbers[0], numbers[-1], self.shards.locations[shard])
