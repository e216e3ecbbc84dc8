"""Stage two's batches: the views that the teacher saw, and the probabilities that it gave them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.digest_check import DigestCheck
from tinyvit_kd.batches.holes import make_hole, place_views, weigh_records
from tinyvit_kd.batches.labels import Labels, write_labels
from tinyvit_kd.batches.layout import batch_layout, by_sample
from tinyvit_kd.batches.replay import replay_views
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.step_plan import Int32, StepPlan
from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.data.buffers import Arrays, BatchMaker, Layout, Tensors
from tinyvit_kd.store.cache import BlockCache, block_bytes
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.batch import Batch

_TARGETS = ("indices", "probs", "residual")


def block_caches(
    config: StoredTargetsConfig, stores: Sequence[LogitStore], plan: StepPlan, steps: int = 1
) -> tuple[BlockCache, ...]:
    """A rank's caches of blocks: together as large as the recipe's limit or, without one, as the plan needs.

    Args:
        steps: within how many consecutive steps loading processes work at the same time.
    """
    limit = config.block_cache_mib
    needed = [plan.blocks_at_a_time(steps) * block_bytes(store.manifest) for store in stores]
    allowed = needed if limit is None else [(limit << 20) * each // sum(needed) for each in needed]
    return tuple(BlockCache(store, size) for store, size in zip(stores, allowed, strict=True))


@dataclass
class StoredBatches(BatchMaker[int, Batch]):
    """Replays the views that the teacher saw, with the probabilities that it gave them.

    Attributes:
        blocks: caches of the store whose views are replayed, and of the stores of further teachers that saw them.
        labels: None if the loss does not use them.
    """

    samples: SampleViews
    blocks: tuple[BlockCache, ...]
    targets: StoredTargetsConfig
    plan: StepPlan
    labels: Labels | None = None
    _check: DigestCheck = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check = DigestCheck(self.samples, self.targets.verify_rate)

    @property
    def layout(self) -> Layout:
        """Views, weights, sparse targets of all teachers and, if they are used, labels."""
        topks = [cache.store.manifest.topk for cache in self.blocks]
        spec = self.samples.spec
        labelled = self.labels is not None
        return batch_layout(self.plan.batch_size, spec.size, topks, labelled, labelled and spec.mixes)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Loading processes that are started meanwhile read each block once between them."""
        with ExitStack() as caches:
            for cache in self.blocks:
                caches.enter_context(cache.shared())
            yield

    def fill(self, task: int, arrays: Arrays) -> int:
        """Make the batch of step ``task``; returns how many digests were compared.

        Raises:
            ReplayError: a view differs from the one that a teacher saw; it names the sample's key.
        """
        return self.replay(*self.plan.samples(task), arrays)

    def replay(self, epoch: int, shards: Int32, indexes: Int32, arrays: Arrays) -> int:
        """As ``fill``, for any samples, in the views that the plan gives them in an epoch.

        Args:
            shards, indexes: of the samples, [n].
            arrays: of n times as many rows as an epoch has views per sample.
        """
        numbers = self.plan.view_numbers(epoch)
        grouped = by_sample(arrays, len(shards))
        records = [self._records(shards, indexes, number) for number in numbers]
        for column, (first, *others) in enumerate(records):
            weigh_records(grouped["weights"][:, column], first.valid)
            _write_targets([first, *others], {name: grouped[name][:, column] for name in _TARGETS})
        mixed_in = np.repeat(indexes[:, None], len(numbers), axis=1)
        lam = grouped.get("lam")
        if lam is not None:
            lam[:] = 1
        # As Python's own numbers, by sample: the loop below must cost little beside rendering.
        valid, seeds, digests = (
            np.stack([getattr(first, name) for first, *_ in records], axis=1).tolist()
            for name in ("valid", "seeds", "digests")
        )
        checked = 0
        for row, (shard, index) in enumerate(zip(shards.tolist(), indexes.tolist(), strict=True)):
            views = grouped["views"][row]
            columns = [column for column, is_valid in enumerate(valid[row]) if is_valid]
            if not columns:
                make_hole(grouped["views"], row)
                continue
            replayed = views if len(columns) == len(records) else np.empty_like(views[columns])
            chosen = {numbers[column]: seeds[row][column] for column in columns}
            mixed = replay_views(self.samples, self.blocks[0], shard, index, chosen, replayed)
            if lam is not None:
                mixed_in[row, columns], lam[row, columns] = zip(*mixed, strict=True)
            for view, column in zip(replayed, columns, strict=True):
                if self._check.covers(epoch, seeds[row][column]):
                    self._check.require_same_view(view, digests[row][column], shard, index)
                    checked += 1
            place_views(replayed, columns, views)
        if self.labels is not None:
            write_labels(grouped, self.labels, shards, indexes, mixed_in)
        return checked

    def join(self, tensors: Tensors, extra: int) -> Batch:
        """The batch on the device; ``extra`` is the number of digests compared."""
        return Batch.of(tensors, extra)

    def _records(self, shards: Int32, indexes: Int32, number: int) -> list[Block]:
        """Each store's records of a view number. Where any store has a hole, the first store's records have one."""
        first, *others = [cache.gather(shards, indexes, number) for cache in self.blocks]
        for other, cache in zip(others, self.blocks[1:], strict=True):
            stores = self.blocks[0].store, cache.store
            self._check.require_same_records((first, other), stores, shards, indexes, number)
            first = replace(first, status=np.maximum(first.status, other.status))
        return [first, *others]


def _write_targets(records: list[Block], targets: dict[str, npt.NDArray[np.generic]]) -> None:
    """Write teachers' records side by side: indices and probs [B, ΣK], residual [B] or, of several teachers, [B, T]."""
    if len(records) == 1:
        for name, array in targets.items():
            array[:] = getattr(records[0], name)
        return
    for name in ("indices", "probs"):
        targets[name][:] = np.concatenate([getattr(each, name) for each in records], axis=1)
    targets["residual"][:] = np.stack([each.residual for each in records], axis=1)
