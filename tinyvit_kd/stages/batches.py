"""Steps to batches: where order, shards, store and views meet, inside the loader's workers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.config.views import EvalViewSpec
from tinyvit_kd.data.buffers import Arrays, Field, Layout, Maker, Tensors
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.errors import BadImageError, ReplayError
from tinyvit_kd.runtime.batch import Batch, SparseTargets
from tinyvit_kd.runtime.seeding import Draws
from tinyvit_kd.stages.sample_views import SampleViews
from tinyvit_kd.stages.training_plan import Int32, Plan
from tinyvit_kd.store.cache import BlockCache, block_bytes
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.render import render_eval, view_digest

Uint8 = npt.NDArray[np.uint8]


def batch_layout(rows: int, size: int, topk: int | None = None, labels: bool = False, mixed: bool = False) -> Layout:
    """The arrays of a ``Batch`` of ``rows`` views of ``size`` pixels, under the names that ``Batch.of`` takes."""
    fields: dict[str, Field] = {"views": ((rows, 3, size, size), np.uint8), "weights": ((rows,), np.float32)}
    if topk is not None:
        fields |= {"indices": ((rows, topk), np.int64), "probs": ((rows, topk), np.float32)}
        fields["residual"] = (rows,), np.float32
    if labels:
        fields["labels"] = (rows,), np.int64
    if mixed:
        fields |= {"mixed_labels": ((rows,), np.int64), "lam": ((rows,), np.float32)}
    return Layout(**fields)


def block_cache(config: StoredTargetsConfig, store: LogitStore, plan: Plan) -> BlockCache:
    """A worker's cache of blocks, as large as the recipe says or the plan needs."""
    limit = config.block_cache_mib
    return BlockCache(store, plan.blocks_at_a_time * block_bytes(store.manifest) if limit is None else limit << 20)


@dataclass
class StoredBatches(Maker[int, Batch]):
    """Stage two: replays the teacher's views and hands out its probabilities.

    Epoch e uses view numbers e M … e M + M - 1 modulo V of every sample.
    """

    samples: SampleViews
    blocks: BlockCache
    targets: StoredTargetsConfig
    view_count: int
    plan: Plan

    @property
    def layout(self) -> Layout:
        """Views, weights and sparse targets."""
        return batch_layout(self.plan.batch_size, self.samples.spec.size, self.blocks.store.manifest.topk)

    def fill(self, task: int, arrays: Arrays) -> int:
        """The batch of a step; returns how many digests were compared.

        Raises:
            ReplayError: a view differs from the one that the teacher saw; it names the sample's key.
        """
        epoch, shards, indexes = self.plan.samples(task)
        numbers = [number % self.view_count for number in self.plan.view_numbers(epoch)]
        records = [self.blocks.gather(shards, indexes, number) for number in numbers]
        rows, checked = _by_sample(arrays, len(shards)), 0
        for column, block in enumerate(records):
            rows["weights"][:, column] = block.valid
            for name in SparseTargets._fields:
                rows[name][:, column] = getattr(block, name)
        # By sample, as numbers of Python's own: the loop below must cost little beside rendering.
        valid, seeds, digests = (
            np.stack([getattr(block, name) for block in records], axis=1).tolist()
            for name in ("valid", "seeds", "digests")
        )
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            views, seen = rows["views"][row], [column for column, each in enumerate(valid[row]) if each]
            if not seen:
                views[:] = 0
                continue
            found = views if len(seen) == len(records) else np.empty_like(views[seen])
            self._replay(shard, index, [(numbers[column], seeds[row][column]) for column in seen], found)
            for view, column in zip(found, seen, strict=True):
                if self._is_checked(epoch, seeds[row][column]):
                    self._verify(view, digests[row][column], shard, index)
                    checked += 1
            if found is not views:  # some of the views were holes
                views[:] = 0
                views[seen] = found
        return checked

    def join(self, tensors: Tensors, told: int) -> Batch:
        """The batch on the device."""
        return Batch.of(tensors, told)

    def _replay(self, shard: int, index: int, views: list[tuple[int, int]], out: Uint8) -> None:
        """Fill ``out`` [V, 3, S, S] with views of a sample, of which each has a number and a seed."""
        decoded, seeds = index, [seed for _, seed in views]
        try:
            self.samples.render(shard, index, seeds, out)
            for row, (number, seed) in enumerate(views if self.samples.spec.mixes else ()):
                partner = self.samples.partner(shard, index, number)
                if partner < 0:
                    continue
                record = self.blocks.records(shard, number, np.array([partner], dtype=np.int32))
                if record.valid[0]:
                    decoded = partner
                    self.samples.mix_in(shard, partner, [seed], record.seeds.tolist(), out[row : row + 1])
        except BadImageError as error:
            raise ReplayError(
                "an image that the teacher saw can no longer be decoded",
                where=place(self.samples.reader, shard, decoded),
                found=error.what,
                fix="restore the shard that the store was dumped from, or dump this shard again",
            ) from None

    def _is_checked(self, epoch: int, seed: int) -> bool:
        rate = self.targets.verify_rate
        return rate == 1 or Draws(seed, epoch, 0x636865636B).random() < rate

    def _verify(self, view: Uint8, stored: int, shard: int, index: int) -> None:
        found = view_digest(view)
        if found != stored:
            raise ReplayError(
                "a replayed view is not the view that the teacher saw",
                where=place(self.samples.reader, shard, index),
                found=f"digest {found:08x}",
                expected=f"digest {stored:08x}, from the store",
                fix="the image's bytes have changed since the dump: restore the shard, or dump it again",
            )


@dataclass
class LabelledBatches(Maker[int, Batch]):
    """Stage three: fresh views of every sample in every epoch, with its label.

    Seeds follow from (schedule seed, shard, index, view number), pairs from (schedule seed, shard, epoch).
    """

    samples: SampleViews
    plan: Plan
    on_bad_image: str

    @property
    def layout(self) -> Layout:
        """Views, weights and labels, and those of mixed-in samples where the spec mixes."""
        spec = self.samples.spec
        return batch_layout(self.plan.batch_size, spec.size, labels=True, mixed=spec.mixes)

    def fill(self, task: int, arrays: Arrays) -> int:
        """The batch of a step; returns how many digests were compared, none."""
        epoch, shards, indexes = self.plan.samples(task)
        reader, rows, numbers = self.samples.reader, _by_sample(arrays, len(shards)), self.plan.view_numbers(epoch)
        mixed_in, weights = indexes.copy(), rows["weights"]
        weights[:] = 1
        lam = rows["lam"] if self.samples.spec.mixes else np.ones_like(weights)
        lam[:] = 1
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            views = rows["views"][row]
            try:
                seeds = self.samples.seeds(shard, index, numbers)
                mixed_in[row], lam[row] = self.samples.render_new(shard, index, seeds, epoch, views)
            except BadImageError as error:
                views[:] = weights[row] = 0
                refuse_hole(self.on_bad_image, error, reader, shard, index)
        labels, others = gather_labels(reader, shards, indexes), gather_labels(reader, shards, mixed_in)
        other = np.where(lam < 1, others[:, None], labels[:, None])
        weights[(labels[:, None] < 0) | (other < 0)] = 0
        rows["labels"][:] = labels[:, None]
        if self.samples.spec.mixes:
            rows["mixed_labels"][:] = other
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
        labels[:] = gather_labels(self.reader, np.full_like(indexes, shard), indexes)
        weights[labels < 0] = 0
        return len(indexes)

    def join(self, tensors: Tensors, told: int) -> Batch:
        """The batch on the device, without the rows that a short run leaves."""
        return Batch.of({name: tensor[:told] for name, tensor in tensors.items()})


def _by_sample(arrays: Arrays, samples: int) -> Arrays:
    """Arrays [B, …] as [B/M, M, …]: a sample's views are next to each other."""
    return {name: array.reshape(samples, -1, *array.shape[1:]) for name, array in arrays.items()}


def gather_labels(reader: ShardReader, shards: Int32, indexes: Int32) -> npt.NDArray[np.int64]:
    """Labels of samples from several shards: int64 [B], -1 where there is none."""
    labels = np.empty(len(shards), dtype=np.int64)
    for shard in np.unique(shards):
        rows = shards == shard
        labels[rows] = reader.labels(int(shard), indexes[rows])
    return labels


def refuse_hole(policy: str, error: BadImageError, reader: ShardReader, shard: int, index: int) -> None:
    """Raise ``error``, with the sample's name, where the recipe says ``on_bad_image: error``."""
    if policy != "error":
        return
    error.where = place(reader, shard, index)
    error.fix = "mend or remove the image, or set on_bad_image: hole to go on without it"
    raise error


def place(reader: ShardReader, shard: int, index: int) -> str:
    """A sample's name in messages."""
    return f"sample {reader.key(shard, index)} of shard {reader.name(shard)}"
