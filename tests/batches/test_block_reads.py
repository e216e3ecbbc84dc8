"""What stage two keeps of the store in memory: enough to read each block about once, and no more."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.local_files import store_folder
from tests.store.blocks import block_for, manifest_of
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import block_caches
from tinyvit_kd.config.data import StoredTargetsConfig
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.storage.local import LocalStorage
from tinyvit_kd.store.cache import BlockCache, block_bytes
from tinyvit_kd.store.encodings import Planes
from tinyvit_kd.store.store import LogitStore

EQUAL, UNEQUAL = (60,) * 32, tuple(range(31, 95, 2))
SCHEDULE = ScheduleConfig(epochs=1, global_batch_size=16, lanes=8, window=36)


class Noting(LogitStore):
    """A store that notes which shards' blocks are read."""

    def read_planes(self, shard: int, view: int) -> Planes:
        self.read.append(shard)
        return super().read_planes(shard, view)

    read: list[int]


@pytest.fixture(scope="module", params=[EQUAL, UNEQUAL], ids=["equal shards", "unequal shards"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Noting:
    return filled(tmp_path_factory.mktemp("reads") / "store", request.param, views=1)


def filled(path: Path, lengths: tuple[int, ...], views: int) -> Noting:
    store = Noting.create(path, manifest_of(lengths, encoding="compact", views=views))
    for shard, view in store.missing_blocks():
        store.write_block(shard, view, block_for(store.manifest, shard, view))
    assert isinstance(store, Noting)
    return store


def blocks_read(store: Noting, cache: BlockCache, plan: StepPlan, workers: int) -> list[int]:
    """Shards of the blocks that one worker reads in an epoch, in the order of reading."""
    store.read = []
    for step in range(0, plan.steps_per_epoch, workers):
        epoch, shards, indexes = plan.samples(step)
        cache.gather(shards, indexes, epoch)
    return store.read


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("processes", [1, 4])
def test_each_block_is_read_about_once_by_a_worker(processes: int, workers: int, store: Noting) -> None:
    plan = StepPlan(store.manifest.shard_lengths, SCHEDULE, rank_lanes(SCHEDULE.lanes, 0, processes))
    read = blocks_read(
        store, block_caches(StoredTargetsConfig(path=store_folder(store)), [store], plan)[0], plan, workers
    )
    assert len(read) <= 1.3 * len(set(read))  # more than once: shards that lie in two lanes
    again = blocks_read(
        store, BlockCache(store, plan.blocks_at_a_time() // 4 * block_bytes(store.manifest)), plan, workers
    )
    assert len(again) > 2 * len(read)


@pytest.mark.parametrize("views_per_sample", [1, 2])
def test_each_block_is_read_about_once_by_workers_that_share_a_cache(views_per_sample: int, tmp_path: Path) -> None:
    lengths = (30,) * 128
    store = filled(tmp_path / "store", lengths, views=2)
    schedule = SCHEDULE.model_copy(update={"views_per_sample": views_per_sample, "global_batch_size": 64})
    plan = StepPlan(lengths, schedule, range(8))
    draw = np.random.default_rng(0)
    # Workers make batches in turn, but not at the same time: here they are up to eight apart.
    steps = np.argsort(np.arange(plan.steps_per_epoch) + draw.random(plan.steps_per_epoch) * 8, kind="stable")
    read = {}
    for apart in (1, 8):
        (cache,) = block_caches(StoredTargetsConfig(path=store_folder(store)), [store], plan, apart)
        store.read = []
        for step in steps.tolist():
            _, shards, indexes = plan.samples(step)
            for view in range(views_per_sample):
                cache.gather(shards, indexes, view)
        read[apart] = len(store.read) / views_per_sample
    assert read[8] <= 1.05 * len(lengths) < 1.1 * len(lengths) < read[1]


def test_batches_that_are_apart_may_lie_in_several_windows() -> None:
    plan = StepPlan((6836,) * 2048, ScheduleConfig(epochs=1, global_batch_size=4096), rank_lanes(64, 0, 8))
    assert [plan.blocks_at_a_time(steps) for steps in (1, 2, 56, 64)] == [16, 24, 24, 24]
    assert plan.blocks_at_a_time(66) == 8 * (2 + 3 * 4096 // 6836)
    assert replace(plan, shard_lengths=(6836,) * 8).blocks_at_a_time(1000) == 5  # its part of the epoch


def test_a_process_keeps_no_more_than_its_own_lanes_need() -> None:
    plan = StepPlan((6836,) * 2048, ScheduleConfig(epochs=1, global_batch_size=4096), rank_lanes(64, 0, 8))
    assert plan.blocks_at_a_time() == 16
    manifest = manifest_of((6836,), encoding="compact", topk=100, num_classes=21841)
    assert block_bytes(manifest) == 6836 * 311


def test_short_shards_share_a_window() -> None:
    lengths = (100, 300) * 100
    plan = StepPlan(lengths, ScheduleConfig(epochs=1, global_batch_size=4, lanes=4, window=800), range(4))
    assert plan.blocks_at_a_time() == 4 * 6
    assert replace(plan, shard_lengths=lengths[:2]).blocks_at_a_time() == 2


def test_with_as_many_lanes_as_samples_in_a_batch_a_process_keeps_its_own_part_of_the_shards() -> None:
    schedule = ScheduleConfig(epochs=1, global_batch_size=4096, lanes=4096)
    plan = StepPlan((5000,) * 2800, schedule, rank_lanes(4096, 1, 8))
    used = {int(shard) for step in range(0, plan.steps_per_epoch, 100) for shard in plan.samples(step)[1]}
    assert len(used) <= plan.shards_at_a_time < 1.3 * len(used) < 0.2 * 2800


def test_the_memory_for_blocks_is_shared_by_all_stores(tmp_path: Path) -> None:
    """In proportion to their blocks, so that each keeps as many."""
    lengths = (500,) * 64
    manifests = [manifest_of(lengths, encoding="compact", topk=topk) for topk in (5, 10, 50)]
    stores = [LogitStore(LocalStorage(str(tmp_path)), manifest, writable=False, fsync=False) for manifest in manifests]
    plan = StepPlan(lengths, ScheduleConfig(epochs=1, global_batch_size=64, lanes=64, window=36), range(64))
    config = StoredTargetsConfig(path=tmp_path, block_cache_mib=2)
    caches = block_caches(config, stores, plan)
    blocks = [block_bytes(manifest) for manifest in manifests]
    taken = [cache.slots * block for cache, block in zip(caches, blocks, strict=True)]
    assert (2 << 20) - sum(blocks) < sum(taken) <= 2 << 20
    assert len({memory // block for memory, block in zip(taken, blocks, strict=True)}) == 1
