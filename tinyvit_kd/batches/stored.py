"""Stage two's batches: the teacher's views again, and what it said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.labels import Labels, write_labels
from tinyvit_kd.batches.layout import batch_layout, by_sample
from tinyvit_kd.batches.sample_views import SampleViews, Uint8, sample_name
from tinyvit_kd.batches.step_plan import Int32, StepPlan
from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.errors import BadImageError, ReplayError
from tinyvit_kd.runtime.seeding import Draws
from tinyvit_kd.store.cache import BlockCache, block_bytes
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.views.render import view_digest

View = tuple[int, int]  # number and seed
Mixed = tuple[int, float]  # the sample that is mixed into a view, and λ; 1 where none is
_CHANGED = "the image's bytes have changed since the dump: restore the shard, or dump it again"
_CHANGED_TRANSFORM = (
    "the image's bytes, the transform's code or its libraries have changed since the dump, or it has randomness that "
    "seeding cannot reach: restore what has changed, or dump again"
)


def block_caches(config: StoredTargetsConfig, stores: Sequence[LogitStore], plan: StepPlan) -> tuple[BlockCache, ...]:
    """A worker's caches of blocks, together as large as the recipe says, or each as the plan needs."""
    limit, blocks = config.block_cache_mib, plan.blocks_at_a_time
    needed = [blocks * block_bytes(store.manifest) for store in stores]
    allowed = needed if limit is None else [(limit << 20) * each // sum(needed) for each in needed]
    return tuple(BlockCache(store, size) for store, size in zip(stores, allowed, strict=True))


@dataclass
class StoredBatches(BatchMaker[int, Batch]):
    """Replays the teacher's views and hands out its probabilities.

    Attributes:
        blocks: of the store whose views these are, and of further teachers that saw the same views.
        labels: where the loss uses them.
    """

    samples: SampleViews
    blocks: tuple[BlockCache, ...]
    targets: StoredTargetsConfig
    plan: StepPlan
    labels: Labels | None = None

    @property
    def layout(self) -> Layout:
        """Views, weights, sparse targets of all teachers and, where there are some, labels."""
        topks, spec, labelled = [each.store.manifest.topk for each in self.blocks], self.samples.spec, bool(self.labels)
        return batch_layout(self.plan.batch_size, spec.size, topks, labelled, labelled and spec.mixes)

    def fill(self, task: int, arrays: Arrays) -> int:
        """The batch of a step; returns how many digests were compared.

        Raises:
            ReplayError: a view differs from the one that a teacher saw; it names the sample's key.
        """
        epoch, shards, indexes = self.plan.samples(task)
        rows, numbers = by_sample(arrays, len(shards)), self.plan.view_numbers(epoch)
        records = [self._records(shards, indexes, number) for number in numbers]
        for column, (first, *others) in enumerate(records):
            rows["weights"][:, column] = first.valid
            _write_targets([first, *others], {name: rows[name][:, column] for name in ("indices", "probs", "residual")})
        mixed_in, lam = np.repeat(indexes[:, None], len(numbers), axis=1), rows.get("lam")
        if lam is not None:
            lam[:] = 1
        # By sample, as numbers of Python's own: the loop below must cost little beside rendering.
        valid, seeds, digests = (
            np.stack([getattr(first, name) for first, *_ in records], axis=1).tolist()
            for name in ("valid", "seeds", "digests")
        )
        checked = 0
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            views, seen = rows["views"][row], [column for column, each in enumerate(valid[row]) if each]
            if not seen:
                views[:] = 0
                continue
            found = views if len(seen) == len(records) else np.empty_like(views[seen])
            mixed = self._replay(shard, index, [(numbers[column], seeds[row][column]) for column in seen], found)
            if lam is not None:
                mixed_in[row, seen], lam[row, seen] = zip(*mixed, strict=True)
            for view, column in zip(found, seen, strict=True):
                if self._is_checked(epoch, seeds[row][column]):
                    self._verify(view, digests[row][column], shard, index)
                    checked += 1
            if found is not views:  # some of the views were holes
                views[:] = 0
                views[seen] = found
        if self.labels is not None:
            write_labels(rows, self.labels, shards, indexes, mixed_in)
        return checked

    def join(self, tensors: Tensors, extra: int) -> Batch:
        """The batch on the device."""
        return Batch.of(tensors, extra)

    def _records(self, shards: Int32, indexes: Int32, number: int) -> list[Block]:
        """Each store's records of a view number; the first one's are holes where any other's are."""
        first, *others = [each.gather(shards, indexes, number) for each in self.blocks]
        for other, cache in zip(others, self.blocks[1:], strict=True):
            differ = np.flatnonzero(first.valid & other.valid & (first.digests != other.digests))
            if len(differ):
                self._refuse_other(int(shards[differ[0]]), int(indexes[differ[0]]), number, cache.store)
            first = replace(first, status=np.maximum(first.status, other.status))
        return [first, *others]

    def _replay(self, shard: int, index: int, views: list[View], out: Uint8) -> list[Mixed]:
        """Fill ``out`` [V, 3, S, S] with views of a sample; returns what is mixed into each."""
        decoded, seeds = index, [seed for _, seed in views]
        mixed: list[Mixed] = []
        try:
            self.samples.render(shard, index, seeds, out)
            for row, (number, seed) in enumerate(views if self.samples.spec.mixes else ()):
                mixed.append((index, 1.0))
                partner = self.samples.partner(shard, index, number)
                if partner < 0:
                    continue
                record = self.blocks[0].records(shard, number, np.array([partner], dtype=np.int32))
                if record.valid[0]:
                    decoded, others = partner, record.seeds.tolist()
                    (lam,) = self.samples.mix_in(shard, partner, [seed], others, out[row : row + 1])
                    mixed[-1] = partner, lam
        except BadImageError as error:
            raise ReplayError(
                "an image that the teacher saw can no longer be decoded",
                where=sample_name(self.samples.reader, shard, decoded),
                found=error.what,
                fix="restore the shard that the store was dumped from, or dump this shard again",
            ) from None
        return mixed

    def _is_checked(self, epoch: int, seed: int) -> bool:
        rate = self.targets.verify_rate
        return rate == 1 or Draws(seed, epoch, 0x636865636B).random() < rate

    def _verify(self, view: Uint8, stored: int, shard: int, index: int) -> None:
        found = view_digest(view)
        if found != stored:
            raise ReplayError(
                "a replayed view is not the view that the teacher saw",
                where=sample_name(self.samples.reader, shard, index),
                found=f"digest {found:08x}",
                expected=f"digest {stored:08x}, from the store",
                fix=_CHANGED if self.samples.spec.transform is None else _CHANGED_TRANSFORM,
            )

    def _refuse_other(self, shard: int, index: int, number: int, store: LogitStore) -> None:
        raise ReplayError(
            "two teachers did not see the same view",
            where=sample_name(self.samples.reader, shard, index),
            found=f"another digest of view {number} in {store.where} than in {self.blocks[0].store.where}",
            fix="an image or the renderer changed between the dumps: dump this shard again into both stores",
        )


def _write_targets(records: list[Block], targets: dict[str, npt.NDArray[np.generic]]) -> None:
    """Teachers' records side by side: indices and probs [B, ΣK], residual [B] or, of several teachers, [B, T]."""
    if len(records) == 1:
        for name, array in targets.items():
            array[:] = getattr(records[0], name)
        return
    for name in ("indices", "probs"):
        targets[name][:] = np.concatenate([getattr(each, name) for each in records], axis=1)
    targets["residual"][:] = np.stack([each.residual for each in records], axis=1)
