"""Reads blocks of a store and sums up what their records say: what one process does of ``store_statistics``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit_kd.analysis.records.record_figures import (
    Answers,
    Float64,
    divergence,
    entropy,
    kept_mass,
    label_probability,
    label_ranks,
)
from tinyvit_kd.analysis.records.store_labels import StoreLabels
from tinyvit_kd.analysis.records.store_sums import (
    BINS,
    CONFIDENCE_BINS,
    BytesSums,
    ClassSums,
    FieldBytes,
    Int64,
    PairSums,
    StoreSums,
    ViewSums,
)
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.errors import BlockCorruptError, StoreError
from tinyvit_kd.runs.known_labels import UNKNOWN, view_labels
from tinyvit_kd.store.chunks import pack
from tinyvit_kd.store.codec import decode, field_planes
from tinyvit_kd.store.encodings import Planes
from tinyvit_kd.store.integrity import REDUMP, records_problem
from tinyvit_kd.store.read_ahead import Read, read_ahead
from tinyvit_kd.store.records import Block, RecordStatus
from tinyvit_kd.store.store import LogitStore

TOP = 5
MIXED_ROWS = 128  # of a block with mixed views, whose labels are looked up: 20 µs each


WORTH_PROCESSES = 20_000_000  # stored probabilities, which take a process about 2 s, as long as starting another


class Task(NamedTuple):
    """Some blocks of one shard that are read together, so that views of a sample can be compared."""

    shard: int
    views: tuple[int, ...]
    first: bool  # of its shard: its holes are counted here


class ReadBlock(NamedTuple):
    """A block as it was read."""

    view: int
    block: Block
    planes: Planes
    size: int  # of its file, bytes


def worth_processes(store: LogitStore, blocks: Iterable[tuple[int, int]], asked: int) -> int:
    """How many processes to start for some blocks: one where starting others would take longer than the work."""
    lengths = store.manifest.shard_lengths
    values = store.manifest.topk * sum(lengths[shard] for shard, _ in blocks)
    return max(1, asked) if values >= WORTH_PROCESSES else 1


def read_blocks(store: LogitStore, task: Task, unread: list[tuple[str, str]]) -> Iterator[ReadBlock]:
    """Each block of a task that is undamaged, one after the other.

    Args:
        unread: the locations of the others are appended here, each with what is wrong.
    """
    many = store.storage.at_a_time > 1  # requests at a time; a disk is read block by block
    reads = read_ahead(store, task.shard, list(task.views)) if many else ((view, None) for view in task.views)
    for view, read in reads:
        try:
            yield _read(store, task.shard, view, read)
        except StoreError as error:
            unread.append((store.block_location(task.shard, view), error.what))


def _read(store: LogitStore, shard: int, view: int, read: Read | None) -> ReadBlock:
    content = store.read_file(shard, view) if read is None else read.result()
    planes = store.unpack(shard, view, content)
    header = store.header(shard, view)
    if problem := records_problem(planes, header):  # a stranger's, with a checksum that is right
        raise BlockCorruptError(problem, where=store.block_location(shard, view), fix=REDUMP)
    return ReadBlock(view, decode(planes, header), planes, len(content))


class BlockSummer:
    """Sums up tasks; importable, so that processes can share the work.

    Args:
        store: opened for reading.
        labels: of its samples, as far as they are known.
        spec: of its views; None if it is not known, so that it is not known whether they are mixed.
    """

    def __init__(self, store: LogitStore, labels: StoreLabels, spec: ViewSpec | None) -> None:
        self.store, self.labels, self.spec = store, labels, spec

    def __call__(self, task: Task) -> StoreSums:
        """The sums over the blocks of a task."""
        manifest = self.store.manifest
        sums = StoreSums.zeros(manifest.num_classes, manifest.topk)
        labels = self.labels.of_shard(task.shard) if self.spec is not None else np.full(0, UNKNOWN, np.int64)
        best: list[Int64] = []
        before: Block | None = None
        for number, read in enumerate(read_blocks(self.store, task, sums.unread)):
            block, rows = read.block, np.flatnonzero(read.block.valid)
            sums.blocks += 1
            sums.block_bytes += read.size
            if number == 0:
                sums.bytes = self._field_bytes(task.shard, read)
                if task.first:
                    _count_holes(sums, block)
            of_views = self._view_labels(labels, task.shard, read.view, len(block))
            sum_records(sums, read.view, block.take(rows), of_views[rows], manifest.num_classes)
            best.append(np.where(block.valid, best_classes(block), UNKNOWN))
            if before is not None:
                _compare(sums.pairs, before, block, manifest.num_classes)
            before = block
        count_same(sums.pairs, best, manifest.num_classes)
        return sums

    def _view_labels(self, labels: Int64, shard: int, view: int, count: int) -> Int64:
        if self.spec is None or not len(labels):
            return np.full(count, UNKNOWN, np.int64)
        seed = self.store.manifest.seed
        return view_labels(labels, np.arange(count), shard, view, count, self.spec, seed, MIXED_ROWS)

    def _field_bytes(self, shard: int, read: ReadBlock) -> BytesSums:
        fields = field_planes(read.planes, self.store.header(shard, read.view))
        return BytesSums(
            blocks=1,
            records=len(read.block),
            file_bytes=read.size,
            by_field={name: FieldBytes(planes.size, len(pack(planes))) for name, planes in fields.items()},
        )


def _count_holes(sums: StoreSums, block: Block) -> None:
    sums.samples += len(block)
    sums.holes += Counter(RecordStatus(int(each)).name.lower() for each in block.status if each)


def best_classes(block: Block) -> Int64:
    """The best class of each record: int64 [n]; of holes it means nothing."""
    column = block.probs.argmax(axis=1)[:, None]
    return np.take_along_axis(block.indices, column, axis=1)[:, 0].astype(np.int64)


def sum_records(sums: StoreSums, view: int, block: Block, labels: Int64, num_classes: int) -> None:
    """Add records without holes to the sums.

    Args:
        labels: of the views, [n], -1 where they are not known.
        num_classes: C.
    """
    confidence, best = block.probs.max(axis=1, initial=0), best_classes(block)
    spread = entropy(block.probs, block.residual, num_classes)
    known = np.flatnonzero(labels >= 0)
    ranks = label_ranks(block.indices[known], block.probs[known], labels[known])
    of_label = label_probability(
        block.indices[known], block.probs[known], block.residual[known], labels[known], num_classes
    )
    sums.by_view.setdefault(view, ViewSums()).add(
        ViewSums(
            records=len(block),
            confidence=float(confidence.sum(dtype=np.float64)),
            entropy=float(spread.sum()),
            residual=float(block.residual.sum(dtype=np.float64)),
            labelled=len(known),
            right=int((ranks == 0).sum()),
            right_top5=int((ranks < min(TOP, block.indices.shape[1])).sum()),
            label_probability=float(of_label.sum(dtype=np.float64)),
        )
    )
    sums.kept += kept_mass(block.probs)
    _add_histograms(sums, confidence, block.residual, spread / np.log(max(num_classes, 2)))
    _add_calibration(sums.calibration, confidence[known], ranks == 0)
    _add_classes(sums.classes, block, best, labels[known], ranks)


def _add_histograms(
    sums: StoreSums, confidence: npt.NDArray[np.float32], residual: npt.NDArray[np.float32], entropy_share: Float64
) -> None:
    for name, values in (("confidence", confidence), ("residual", residual), ("entropy", entropy_share)):
        bins = np.clip((values * BINS).astype(np.int64), 0, BINS - 1)
        sums.histograms[name] = sums.histograms.get(name, 0) + np.bincount(bins, minlength=BINS)


def _add_calibration(calibration: Float64, confidence: npt.NDArray[np.float32], right: npt.NDArray[np.bool_]) -> None:
    bins = np.clip((confidence * CONFIDENCE_BINS).astype(np.int64), 0, CONFIDENCE_BINS - 1)
    for column, weights in enumerate((np.ones_like(confidence), confidence, right.astype(np.float32))):
        calibration[:, column] += np.bincount(bins, weights=weights, minlength=CONFIDENCE_BINS)


def _add_classes(classes: ClassSums, block: Block, best: Int64, labels: Int64, ranks: Int64) -> None:
    count = len(classes.best)
    top = min(TOP, block.indices.shape[1])
    classes.best += np.bincount(best, minlength=count)
    classes.stored += np.bincount(block.indices.reshape(-1), minlength=count)
    classes.labelled += np.bincount(labels, minlength=count)
    classes.right += np.bincount(labels[ranks == 0], minlength=count)
    classes.right_top5 += np.bincount(labels[ranks < top], minlength=count)


def _compare(pairs: PairSums, first: Block, second: Block, num_classes: int) -> None:
    rows = np.flatnonzero(first.valid & second.valid)
    one, other = (Answers(each.indices[rows], each.probs[rows], each.residual[rows]) for each in (first, second))
    pairs.compared += len(rows)
    pairs.divergence += float(divergence(one, other, num_classes).sum())


def count_same(pairs: PairSums, best: list[Int64], num_classes: int) -> None:
    """Add all pairs of views of each sample, and those that have the same best class.

    Args:
        best: best class of each sample by view, [n] each, -1 for holes.
    """
    if len(best) < 2:
        return
    views = np.stack(best, axis=1)  # [n, V]
    there = views >= 0
    keys = views + np.arange(len(views))[:, None] * num_classes
    pairs.pairs += _pairs(there.sum(axis=1))
    pairs.same_best += _pairs(np.unique(keys[there], return_counts=True)[1])


def _pairs(counts: Int64) -> int:
    return int((counts * (counts - 1) // 2).sum())
