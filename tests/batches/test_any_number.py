"""Batches, views and digests are the same for any number of processes and of loading workers."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.tiny_world import VIEWS, World
from tinyvit_kd.batches.sample_views import SampleViews, sample_name
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import StoredBatches
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.store.cache import BlockCache
from tinyvit_kd.store.encodings import Planes
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.render import view_digest

CPU = torch.device("cpu")
Global = list[tuple[str, int, float]]  # key, digest of the view and first probability of every sample of a batch


@pytest.fixture(scope="module", params=["plain", "mixed"])
def stored(request: pytest.FixtureRequest, dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainConfig:
    """A recipe over a store of views as they are, and over one of views that are mixed."""
    world = World(dumped)
    if request.param == "plain":
        return world.pretrain()
    path = str(tmp_path_factory.mktemp("mixed") / "store")
    dump_logits(
        world.dump(views=VIEWS | {"mixup": 0.8, "cutmix": 1.0}, store={"path": path, "topk": 5, "views": 2}), solo_job()
    )
    return world.pretrain(store={"path": path})


READS = multiprocessing.get_context("fork").Value("i", 0)


class Counting(LogitStore):
    """Counts the blocks that it reads, with those of other processes."""

    def read_planes(self, shard: int, view: int) -> Planes:
        with READS.get_lock():
            READS.value += 1
        return super().read_planes(shard, view)


def global_batches(config: PretrainConfig, ranks: int, workers: int, first_step: int = 0) -> list[Global]:
    """What all ranks together train on, step by step."""
    shares = [list(rank_batches(config, rank, ranks, workers, first_step)) for rank in range(ranks)]
    return [[sample for share in step for sample in share] for step in zip(*shares, strict=True)]


def rank_batches(config: PretrainConfig, rank: int, ranks: int, workers: int, first_step: int) -> Iterator[Global]:
    shards = ShardSet.load(config.shards.path, "train")
    store = Counting.open(config.store.path)
    spec = ViewSpec.model_validate(store.manifest.view_spec)
    pairs_seed = store.manifest.seed if spec.mixes else None
    lanes = rank_lanes(config.schedule.lanes, rank, ranks)
    plan = StepPlan(
        tuple(shards.lengths.tolist()),
        config.schedule,
        lanes,
        pairs_seed,
        ViewSchedule(1, ((0, store.manifest.views),)),
    )
    samples = SampleViews(shards.reader(), spec, store.manifest.seed)
    make = StoredBatches(samples, (BlockCache(store, 1 << 20),), config.store, plan)
    steps = range(first_step, plan.steps_per_epoch * config.schedule.epochs)
    name = partial(sample_name, shards.reader())
    with loading(make, steps, RuntimeConfig(workers=workers, prefetch=2), CPU) as batches:
        for step, batch in zip(steps, batches, strict=True):
            _, numbers, indexes = plan.samples(step)
            assert batch.targets is not None
            assert batch.checked == len(batch.weights)
            yield [
                (name(number, index), view_digest(view), probability)
                for number, index, view, probability in zip(
                    numbers.tolist(),
                    indexes.tolist(),
                    np.asarray(batch.views),
                    batch.targets.probs[:, 0].tolist(),
                    strict=True,
                )
            ]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("ranks", "workers"), [(1, 3), (2, 1), (4, 2)])
def test_batches_do_not_depend_on_the_number_of_processes_and_workers(
    stored: PretrainConfig, ranks: int, workers: int
) -> None:
    assert global_batches(stored, ranks, workers) == global_batches(stored, 1, 0)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_workers_read_each_block_once_between_them(stored: PretrainConfig, workers: int) -> None:
    READS.value = 0
    global_batches(stored, 1, workers)
    manifest = LogitStore.open(stored.store.path).manifest
    assert READS.value == manifest.views * len(manifest.shard_lengths)


def test_a_run_may_change_its_number_of_processes_at_any_step(stored: PretrainConfig) -> None:
    whole = global_batches(stored, 1, 0)
    for step in (1, 5, 6, 11):
        assert global_batches(stored, 4, 0, first_step=step) == whole[step:]
