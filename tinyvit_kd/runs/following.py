"""Trains beside a dump that is still running: a store is waited for, and the views of each epoch (``store.follow``).

Which views an epoch uses is decided without looking at what is there, so that a run that waited ends with the weights
of one that did not have to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.recipes import StoredTrainingConfig
from tinyvit_kd.runs.waiting import Sight, Waiter
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.shared_disks import await_visible
from tinyvit_kd.runtime.wording import plural
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import CLASS_LIST, MANIFEST
from tinyvit_kd.store.store import LogitStore

BY_SHARD = (
    "its dump makes all views of a shard before the next shard, so that no view is complete before its end: "
    "block_order: views in its recipe, with views_per_decode below store.views, makes one group of views after the "
    "other"
)


def await_stores(paths: Sequence[str], config: StoredTrainingConfig, job: Job) -> None:
    """Wait until dumps have begun all these stores; every process must call.

    Raises:
        StoreError: a manifest is damaged.
        AgreedStop: no further store was begun for ``store.follow_timeout`` seconds.
    """

    def look() -> Sight | None:
        begun = [_has_begun(path) for path in paths]
        if all(begun):
            return None
        absent = [path for path, is_there in zip(paths, begun, strict=True) if not is_there]
        return Sight(f"{', '.join(absent)}, until a dump begins it", sum(begun), len(paths), "store", life=sum(begun))

    Waiter(job, config.store.follow_timeout, paths).until_ready(look)
    await_visible(lambda: look() is None)  # rank 0 has looked: other machines may see it a little later


def _has_begun(path: str) -> bool:
    """Whether a store has all that a dump writes before its blocks."""
    storage = open_storage(path)
    if storage.info(MANIFEST) is None:
        return False
    return Manifest.load(storage).class_list is None or storage.info(CLASS_LIST) is not None


def followed_turns(stores: Sequence[LogitStore], plan: StepPlan, steps: range, waiter: Waiter) -> Iterator[range]:
    """The steps of a run in consecutive parts, each as soon as the stores have all views of its epochs.

    Every process must ask for a part at the same step. A part holds all epochs whose views are complete by then.

    Raises:
        AgreedStop: see ``Waiter``.
    """
    per_epoch = plan.steps_per_epoch
    while steps:
        needed = NeededViews(stores, plan, range(steps.start // per_epoch, -(-steps.stop // per_epoch)))
        waiter.until_ready(needed)
        ready = int(waiter.job.broadcast(needed.ready))
        stop = min(steps.stop, ready * per_epoch)
        yield range(steps.start, stop)
        steps = range(stop, steps.stop)


class NeededViews:
    """Looks whether stores have the views of the next epoch, and of which epochs after it.

    Args:
        epochs: those that are left.

    Attributes:
        ready: the first epoch that lacks a block.
    """

    def __init__(self, stores: Sequence[LogitStore], plan: StepPlan, epochs: range) -> None:
        assert plan.stored is not None, "a run that follows a dump has stores"
        self.ready = epochs.start
        self._stores = stores
        self._views = {epoch: set(plan.view_numbers(epoch)) for epoch in epochs}
        self._all = range(plan.stored.counts[-1][1])

    def __call__(self) -> Sight | None:
        """Lists the stores' blocks; None if the next epoch can begin."""
        missing = [store.missing_blocks(self._all) for store in self._stores]
        lacking = {view for each in missing for _, view in each}
        first, *_ = self._views
        self.ready = next((epoch for epoch, views in self._views.items() if views & lacking), max(self._views) + 1)
        if self.ready > first:
            return None
        views = self._views[first]
        left = [[block for block in each if block[1] in views] for each in missing]
        wanted = sum(len(views) * sum(length > 0 for length in store.manifest.shard_lengths) for store in self._stores)
        return Sight(
            what=f"{_numbers(views & lacking)} of {self._names(left)}",
            present=wanted - sum(map(len, left)),
            wanted=wanted,
            unit="block",
            told="; ".join(self._details(missing, left)),
            life=sum(map(len, missing)),
        )

    def _names(self, left: list[list[tuple[int, int]]]) -> str:
        return ", ".join(store.where for store, blocks in zip(self._stores, left, strict=True) if blocks)

    def _details(self, missing: list[list[tuple[int, int]]], left: list[list[tuple[int, int]]]) -> Iterator[str]:
        for store, blocks, of_epoch in zip(self._stores, missing, left, strict=True):
            if of_epoch:
                shard, view = of_epoch[0]
                yield f"the first that is missing is view {view} of shard {store.manifest.shard_names[shard]}"
            if len(self._all) > 1 and _goes_by_shard(store, blocks, len(self._all)):
                yield BY_SHARD


def _goes_by_shard(store: LogitStore, missing: list[tuple[int, int]], views: int) -> bool:
    """Whether some shards have all views, and others none."""
    lacking: dict[int, int] = {}
    for shard, _ in missing:
        lacking[shard] = lacking.get(shard, 0) + 1
    with_samples = sum(length > 0 for length in store.manifest.shard_lengths)
    return len(lacking) < with_samples and views in lacking.values()


def _numbers(views: set[int]) -> str:
    return f"{'view' if len(views) == 1 else plural('view')} {', '.join(map(str, sorted(views)))}"
