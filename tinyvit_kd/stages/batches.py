"""Steps to batches: where order, shards, store and views meet, inside the loader's workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.views import EvalViewSpec
from tinyvit_kd.data.buffers import Arrays, Field, Layout, Maker, Tensors
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.runtime.batch import Batch
from tinyvit_kd.stages.replay_check import Rendered, TransformCheck
from tinyvit_kd.stages.sample_views import SampleViews, place
from tinyvit_kd.stages.training_plan import Int32, Plan
from tinyvit_kd.views.render import render_eval

Uint8 = npt.NDArray[np.uint8]
Int64 = npt.NDArray[np.int64]


def batch_layout(
    rows: int, size: int, topk: int | Sequence[int] | None = None, labels: bool = False, mixed: bool = False
) -> Layout:
    """The arrays of a ``Batch`` of ``rows`` views of ``size`` pixels, under the names that ``Batch.of`` takes.

    Args:
        topk: K where there are stored probabilities; of several teachers each one's.
    """
    fields: dict[str, Field] = {"views": ((rows, 3, size, size), np.uint8), "weights": ((rows,), np.float32)}
    if topk is not None:
        each = [topk] if isinstance(topk, int) else topk
        fields |= {"indices": ((rows, sum(each)), np.int64), "probs": ((rows, sum(each)), np.float32)}
        fields["residual"] = (rows, len(each)) if len(each) > 1 else (rows,), np.float32
    if labels:
        fields["labels"] = (rows,), np.int64
    if mixed:
        fields |= {"mixed_labels": ((rows,), np.int64), "lam": ((rows,), np.float32)}
    return Layout(**fields)


@dataclass(frozen=True)
class Labels:
    """Samples' labels, as classes of the head.

    Attributes:
        class_map: int64 [classes of the labels]: each one's class in the head, -1 where it has none; None: the same.
    """

    reader: ShardReader
    class_map: Int64 | None = None

    def gather(self, shards: Int32, indexes: Int32) -> Int64:
        """Of samples from several shards: int64 [B], -1 where there is none."""
        labels = np.empty(len(shards), dtype=np.int64)
        for shard in np.unique(shards):
            rows = shards == shard
            labels[rows] = self.reader.labels(int(shard), indexes[rows])
        return labels if self.class_map is None else np.where(labels < 0, -1, self.class_map[labels])


def write_labels(arrays: Arrays, labels: Labels, shards: Int32, indexes: Int32, mixed_in: Int32) -> None:
    """Fill ``labels`` and, where views are mixed, ``mixed_labels``: [B/M, M] each.

    Args:
        shards, indexes: of the samples, [B/M].
        mixed_in: index of the sample that is mixed into each view, [B/M, M]; where ``lam`` is 1, its own.
    """
    own = labels.gather(shards, indexes)[:, None]
    arrays["labels"][:] = own
    if "lam" in arrays:
        others = labels.gather(np.repeat(shards, mixed_in.shape[1]), mixed_in.reshape(-1))
        arrays["mixed_labels"][:] = np.where(arrays["lam"] < 1, others.reshape(mixed_in.shape), own)


@dataclass
class LabelledBatches(Maker[int, Batch]):
    """Stage three: fresh views of every sample in every epoch, with its label.

    Seeds follow from (schedule seed, shard, index, view number), pairs from (schedule seed, shard, epoch).
    """

    samples: SampleViews
    plan: Plan
    on_bad_image: str
    _check: TransformCheck = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check = TransformCheck(self.samples)

    @property
    def layout(self) -> Layout:
        """Views, weights and labels, and those of mixed-in samples where the spec mixes."""
        spec = self.samples.spec
        return batch_layout(self.plan.batch_size, spec.size, labels=True, mixed=spec.mixes)

    def fill(self, task: int, arrays: Arrays) -> int:
        """The batch of a step; returns how many digests were compared, none."""
        epoch, shards, indexes = self.plan.samples(task)
        reader, rows, numbers = self.samples.reader, by_sample(arrays, len(shards)), self.plan.view_numbers(epoch)
        weights, paired_by = rows["weights"], self.plan.pairs_view(epoch)
        weights[:] = 1
        mixed_in = np.repeat(indexes[:, None], weights.shape[1], axis=1)
        lam = rows.get("lam", np.empty_like(weights))
        lam[:] = 1
        rendered: list[Rendered] = []
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            views = rows["views"][row]
            try:
                seeds = self.samples.seeds(shard, index, numbers)
                mixed_in[row], lam[row] = self.samples.render_new(shard, index, seeds, paired_by, views)
                if self._check.needed:
                    rendered.append(Rendered(shard, index, seeds, paired_by, views))
            except BadImageError as error:
                views[:] = weights[row] = 0
                refuse_hole(self.on_bad_image, error, reader, shard, index)
        self._check(rendered)
        write_labels(rows, Labels(reader), shards, indexes, mixed_in)
        weights[(rows["labels"] < 0) | (rows.get("mixed_labels", rows["labels"]) < 0)] = 0
        return 0

    def join(self, tensors: Tensors, told: int) -> Batch:
        """The batch on the device."""
        return Batch.of(tensors, told)


@dataclass
class EvalBatches(Maker[tuple[int, int, int], Batch]):
    """Every sample once: task (shard, start, stop) to its fixed views."""

    reader: ShardReader
    spec: EvalViewSpec
    batch_size: int  # the most samples of a task

    @property
    def layout(self) -> Layout:
        """Views, weights and labels."""
        return batch_layout(self.batch_size, self.spec.size, labels=True)

    def fill(self, task: tuple[int, int, int], arrays: Arrays) -> int:
        """The batch of one run of samples, whose number it returns; undecodable and unlabelled ones get weight 0."""
        shard, start, stop = task
        indexes = np.arange(start, stop, dtype=np.int32)
        views, weights, labels = (arrays[name][: len(indexes)] for name in ("views", "weights", "labels"))
        weights[:] = 1
        for row, index in enumerate(indexes.tolist()):
            try:
                views[row] = render_eval(self.reader.read(shard, index), self.spec)
            except BadImageError:
                views[row] = weights[row] = 0
        labels[:] = self.reader.labels(shard, indexes)
        weights[labels < 0] = 0
        return len(indexes)

    def join(self, tensors: Tensors, told: int) -> Batch:
        """The batch on the device, without the rows that a short run leaves."""
        return Batch.of({name: tensor[:told] for name, tensor in tensors.items()})


def by_sample(arrays: Arrays, samples: int) -> Arrays:
    """Arrays [B, …] as [B/M, M, …]: a sample's views are next to each other."""
    return {name: array.reshape(samples, -1, *array.shape[1:]) for name, array in arrays.items()}


def refuse_hole(policy: str, error: BadImageError, reader: ShardReader, shard: int, index: int) -> None:
    """Raise ``error``, with the sample's name, where the recipe says ``on_bad_image: error``."""
    if policy != "error":
        return
    error.where = place(reader, shard, index)
    error.fix = "mend or remove the image, or set on_bad_image: hole to go on without it"
    raise error
