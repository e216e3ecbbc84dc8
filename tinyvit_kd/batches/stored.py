"""Stage two's batches: the teacher's views again, and what it said of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.labels import Labels, write_labels
from tinyvit_kd.batches.layout import batch_layout, by_sample
from tinyvit_kd.batches.replay import replay_views, require_digest
from tinyvit_kd.batches.sample_views import SampleViews, sample_name
from tinyvit_kd.batches.step_plan import Int32, StepPlan
from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.errors import ReplayError
from tinyvit_kd.runtime.seeding import Draws
from tinyvit_kd.store.cache import BlockCache, block_bytes
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.batch import Batch


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
            wanted = [(numbers[column], seeds[row][column]) for column in seen]
            mixed = replay_views(self.samples, self.blocks[0], shard, index, wanted, found)
            if lam is not None:
                mixed_in[row, seen], lam[row, seen] = zip(*mixed, strict=True)
            for view, column in zip(found, seen, strict=True):
                if self._is_checked(epoch, seeds[row][column]):
                    require_digest(self.samples, view, digests[row][column], shard, index)
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

    def _is_checked(self, epoch: int, seed: int) -> bool:
        rate = self.targets.verify_rate
        return rate == 1 or Draws(seed, epoch, 0x636865636B).random() < rate

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
