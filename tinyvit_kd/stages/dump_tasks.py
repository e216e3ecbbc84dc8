"""Stage one's work, cut up: missing blocks to groups, groups to batches of views, batches to finished blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.errors import BadImageError, HoleReason
from tinyvit_kd.stages.batches import Uint8, refuse_hole
from tinyvit_kd.stages.sample_views import Partner, SampleViews
from tinyvit_kd.store.records import Block
from tinyvit_kd.views.render import view_digest


@dataclass(frozen=True)
class Group:
    """Missing blocks of one shard that are made together, so that each image is decoded once for all of them."""

    shard: int
    views: tuple[int, ...]
    samples: int


@dataclass(frozen=True)
class Span:
    """Samples ``start`` to ``stop - 1`` of a group, in all of its views."""

    group: Group
    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Views that this span makes."""
        return (self.stop - self.start) * len(self.group.views)


Task = tuple[Span, ...]


class DumpBatch(NamedTuple):
    """Views for one forward pass of the teacher, sample by sample and within it view by view."""

    task: Task
    views: torch.Tensor  # uint8 [batch_size, 3, S, S]; the last rows may be padding
    seeds: npt.NDArray[np.uint32]  # [rows]
    digests: npt.NDArray[np.uint32]  # [rows]
    status: npt.NDArray[np.uint8]  # [rows], a HoleReason


def groups_of(missing: list[tuple[int, int]], lengths: list[int], views_per_decode: int) -> list[Group]:
    """Group missing (shard, view) blocks by shard, ``views_per_decode`` views at the most a group."""
    by_shard: dict[int, list[int]] = {}
    for shard, view in missing:
        by_shard.setdefault(shard, []).append(view)
    return [
        Group(shard, tuple(views[first : first + views_per_decode]), lengths[shard])
        for shard, views in sorted(by_shard.items())
        for first in range(0, len(views), views_per_decode)
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
        start = 0
        while start < group.samples:
            take = min(group.samples - start, room // len(group.views))
            if take:
                pending.append(Span(group, start, start + take))
                start, room = start + take, room - take * len(group.views)
            if start < group.samples:
                yield tuple(pending)
                pending, room = [], batch_size
    if pending:
        yield tuple(pending)


@dataclass
class DumpBatches:
    """Renders the views of a task, in a worker."""

    samples: SampleViews
    batch_size: int
    on_bad_image: str

    def __call__(self, task: Task) -> DumpBatch:
        """Batches are always of full size: the teacher's arithmetic may depend on its batch's shape."""
        rows, size = sum(span.rows for span in task), self.samples.spec.size
        views = np.zeros((self.batch_size, 3, size, size), dtype=np.uint8)
        seeds, digests = np.zeros(rows, dtype=np.uint32), np.zeros(rows, dtype=np.uint32)
        status = np.zeros(rows, dtype=np.uint8)
        first = 0
        for span in task:
            for index in range(span.start, span.stop):
                chosen = slice(first, first + len(span.group.views))
                seeds[chosen] = [self.samples.seed(span.group.shard, index, view) for view in span.group.views]
                status[chosen] = self._render(span.group, index, seeds[chosen].tolist(), views[chosen])
                if status[first] == HoleReason.NONE:
                    digests[chosen] = [view_digest(view) for view in views[chosen]]
                first = chosen.stop
        return DumpBatch(task, torch.from_numpy(views), seeds, digests, status)

    def _render(self, group: Group, index: int, seeds: list[int], out: Uint8) -> HoleReason:
        """Fill ``out`` [views, 3, S, S], or say why not."""
        try:
            out[:] = self.samples.views(group.shard, index, seeds)
        except BadImageError as error:
            refuse_hole(self.on_bad_image, error, self.samples.reader, group.shard, index)
            return error.reason
        for row, view in enumerate(group.views):
            partner = self.samples.partner(group.shard, index, view)
            if partner >= 0:
                other = Partner(partner, self.samples.seed(group.shard, partner, view))
                out[row] = self.samples.mixed_if_whole(group.shard, out[row], seeds[row], other)[0]
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
        first = 0
        for span in batch.task:
            if span.group not in self._open:
                self._open[span.group] = _Partial.empty(span.group, self.topk)
            partial = self._open[span.group]
            rows = slice(first, first + span.rows)
            partial.fill(
                span,
                indices[rows],
                probs[rows],
                residual[rows],
                batch.seeds[rows],
                batch.digests[rows],
                batch.status[rows],
            )
            first = rows.stop
            if partial.filled == span.group.samples:
                del self._open[span.group]
                yield from partial.blocks()


@dataclass
class _Partial:
    group: Group
    indices: npt.NDArray[np.int32]  # [n, views, K]
    probs: npt.NDArray[np.float32]  # [n, views, K]
    residual: npt.NDArray[np.float32]  # [n, views]
    seeds: npt.NDArray[np.uint32]  # [n, views]
    digests: npt.NDArray[np.uint32]  # [n, views]
    status: npt.NDArray[np.uint8]  # [n, views]
    filled: int = 0

    @classmethod
    def empty(cls, group: Group, topk: int) -> _Partial:
        shape = (group.samples, len(group.views))
        return cls(
            group,
            np.zeros((*shape, topk), np.int32),
            np.zeros((*shape, topk), np.float32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.uint32),
            np.zeros(shape, np.uint32),
            np.zeros(shape, np.uint8),
        )

    def fill(self, span: Span, *columns: npt.NDArray[Any]) -> None:
        mine: tuple[npt.NDArray[Any], ...] = (
            *(self.indices, self.probs, self.residual),
            *(self.seeds, self.digests, self.status),
        )
        for target, rows in zip(mine, columns, strict=True):
            part = target[span.start : span.stop]
            part[:] = rows.reshape(part.shape)
        self.filled += span.stop - span.start

    def blocks(self) -> Iterator[tuple[int, int, Block]]:
        hole = self.status != HoleReason.NONE
        self.indices[hole], self.probs[hole], self.residual[hole] = 0, 0, 0
        for column, view in enumerate(self.group.views):
            yield (
                self.group.shard,
                view,
                Block(
                    indices=self.indices[:, column],
                    probs=self.probs[:, column],
                    residual=self.residual[:, column],
                    seeds=self.seeds[:, column],
                    digests=self.digests[:, column],
                    status=self.status[:, column],
                ),
            )
