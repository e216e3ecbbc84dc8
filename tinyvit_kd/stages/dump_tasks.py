"""Stage one's work, cut up: missing blocks to groups, groups to batches of views, batches to finished blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.data.buffers import Arrays, Layout, Maker, Tensors
from tinyvit_kd.errors import BadImageError, HoleReason
from tinyvit_kd.stages.batches import Uint8, refuse_hole
from tinyvit_kd.stages.replay_check import Rendered, TransformCheck
from tinyvit_kd.stages.sample_views import SampleViews
from tinyvit_kd.store.records import Block
from tinyvit_kd.views.mixing import pairs
from tinyvit_kd.views.render import view_digest


@dataclass(frozen=True)
class Group:
    """Missing blocks of one shard that are made together, so that each image is decoded once for all of them.

    Attributes:
        samples: of the shard.
        pairs_seed: where views are mixed, the store's seed: samples are then walked through pair after pair.
    """

    shard: int
    views: tuple[int, ...]
    samples: int
    pairs_seed: int | None = None

    @property
    def unit(self) -> int:
        """Samples that should be in one batch."""
        return 1 if self.pairs_seed is None else 2


@dataclass(frozen=True)
class Span:
    """A run of a group's samples, in all of its views: numbers ``start`` to ``stop - 1`` of its walk."""

    group: Group
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Views that this span makes."""
        return (self.stop - self.start) * len(self.group.views)

    @property
    def indexes(self) -> npt.NDArray[np.int64]:
        """Its samples' indexes in their shard: [stop - start]."""
        return _walk(self.group)[self.start : self.stop]


@lru_cache(maxsize=4)
def _walk(group: Group) -> npt.NDArray[np.int64]:
    if group.pairs_seed is None:
        return np.arange(group.samples)
    return pairs(group.pairs_seed, group.shard, group.views[0], group.samples)


Task = tuple[Span, ...]


class DumpBatch(NamedTuple):
    """Views for one forward pass of the teacher, sample by sample and within it view by view."""

    views: torch.Tensor  # uint8 [batch_size, 3, S, S]; the last rows may be padding
    task: Task
    seeds: npt.NDArray[np.uint32]  # [rows]
    digests: npt.NDArray[np.uint32]  # [rows]
    status: npt.NDArray[np.uint8]  # [rows], a HoleReason


def groups_of(
    missing: list[tuple[int, int]], lengths: list[int], views_per_decode: int, pairs_seed: int | None = None
) -> list[Group]:
    """Group missing (shard, view) blocks by shard, ``views_per_decode`` views at the most a group.

    Args:
        pairs_seed: the store's seed where views are mixed. Every view number pairs the samples anew, so that only
            one view at a time can be made from images that are decoded once.
    """
    size = views_per_decode if pairs_seed is None else 1
    by_shard: dict[int, list[int]] = {}
    for shard, view in missing:
        by_shard.setdefault(shard, []).append(view)
    return [
        Group(shard, tuple(views[first : first + size]), lengths[shard], pairs_seed)
        for shard, views in sorted(by_shard.items())
        for first in range(0, len(views), size)
    ]


def claim_groups(groups: list[Group], counter: Iterator[int]) -> Iterator[Group]:
    """Groups that no other process of the job has taken, one at a time."""
    for number in counter:
        if number >= len(groups):
            return
        yield groups[number]


def tasks_of(groups: Iterator[Group], batch_size: int) -> Iterator[Task]:
    """Cut groups into tasks of at most ``batch_size`` views; a task may span groups."""
    pending: list[Span] = []
    room = batch_size
    for group in groups:
        start, unit = 0, min(group.unit, batch_size)
        while start < group.samples:
            take = min(group.samples - start, room // len(group.views) // unit * unit)
            if take:
                pending.append(Span(group, start, start + take))
                start, room = start + take, room - take * len(group.views)
            if start < group.samples:
                yield tuple(pending)
                pending, room = [], batch_size
    if pending:
        yield tuple(pending)


# The task, and of every row seed, digest and status.
Told = tuple[Task, npt.NDArray[np.uint32], npt.NDArray[np.uint32], npt.NDArray[np.uint8]]


@dataclass
class DumpBatches(Maker[Task, DumpBatch]):
    """Renders the views of a task; some of them twice, where a transform makes them."""

    samples: SampleViews
    batch_size: int
    on_bad_image: str
    _check: TransformCheck = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check = TransformCheck(self.samples)

    @property
    def layout(self) -> Layout:
        """Views alone: batches are always of full size, as the teacher's arithmetic may depend on its batch's shape."""
        size = self.samples.spec.size
        return Layout(views=((self.batch_size, 3, size, size), np.uint8))

    def fill(self, task: Task, arrays: Arrays) -> Told:
        """The views, with zeros for holes and padding; what else a record keeps is told."""
        rows, views = sum(span.rows for span in task), arrays["views"]
        seeds, digests = np.zeros(rows, dtype=np.uint32), np.zeros(rows, dtype=np.uint32)
        status = np.zeros(rows, dtype=np.uint8)
        rendered: list[Rendered] = []
        first = 0
        for span in task:
            shard, numbers = span.group.shard, span.group.views
            for index in span.indexes.tolist():
                chosen = slice(first, first + len(numbers))
                own = self.samples.seeds(shard, index, numbers)
                seeds[chosen] = list(own.values())
                status[chosen] = self._render(span.group, index, own, views[chosen])
                if status[first] == HoleReason.NONE:
                    digests[chosen] = [view_digest(view) for view in views[chosen]]
                    if self._check.needed:
                        rendered.append(Rendered(shard, index, own, numbers[0], views[chosen]))
                first = chosen.stop
        views[rows:] = 0
        self._check(rendered)
        return task, seeds, digests, status

    def join(self, tensors: Tensors, told: Told) -> DumpBatch:
        """The views on the device."""
        return DumpBatch(tensors["views"], *told)

    def _render(self, group: Group, index: int, seeds: dict[int, int], out: Uint8) -> HoleReason:
        """Fill ``out`` [views, 3, S, S], or say why not."""
        try:
            self.samples.render_new(group.shard, index, seeds, group.views[0], out)
        except BadImageError as error:
            out[:] = 0
            refuse_hole(self.on_bad_image, error, self.samples.reader, group.shard, index)
            return error.reason
        return HoleReason.NONE


class Assembler:
    """Puts the teacher's answers together until a group's blocks are whole."""

    def __init__(self, topk: int) -> None:
        self.topk = topk
        self._open: dict[Group, _Partial] = {}

    def add(
        self,
        batch: DumpBatch,
        indices: npt.NDArray[np.int64],
        probs: npt.NDArray[np.float32],
        residual: npt.NDArray[np.float32],
    ) -> Iterator[tuple[int, int, Block]]:
        """Take the answers [batch_size, K] for a batch; yields (shard, view, block) for blocks that are now whole."""
        made = len(batch.status)
        answers = Block(
            indices[:made].astype(np.int32), probs[:made], residual[:made], batch.seeds, batch.digests, batch.status
        )
        first = 0
        for span in batch.task:
            if span.group not in self._open:
                self._open[span.group] = _Partial.empty(span.group, self.topk)
            partial = self._open[span.group]
            partial.fill(span, answers.take(slice(first, first + span.rows)))
            first += span.rows
            if partial.filled == span.group.samples:
                del self._open[span.group]
                yield from partial.whole()


@dataclass
class _Partial:
    group: Group
    blocks: list[Block]  # of each of the group's views
    filled: int = 0

    @classmethod
    def empty(cls, group: Group, topk: int) -> _Partial:
        return cls(group, [Block.empty(group.samples, topk) for _ in group.views])

    def fill(self, span: Span, answers: Block) -> None:
        for column, block in enumerate(self.blocks):
            block.put(span.indexes, answers.take(slice(column, None, len(self.blocks))))
        self.filled += span.stop - span.start

    def whole(self) -> Iterator[tuple[int, int, Block]]:
        for view, block in zip(self.group.views, self.blocks, strict=True):
            hole = ~block.valid
            block.indices[hole], block.probs[hole], block.residual[hole] = 0, 0, 0
            yield self.group.shard, view, block
