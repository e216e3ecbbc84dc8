"""Several views per sample and epoch: next to each other, from one decode, and the same as each rendered alone."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tiny_world import MIXED, SAMPLES, VIEWS, World
from tinyvit_kd.batches.labelled_batches import LabelledBatches
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import StoredBatches
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.seeding import view_seed
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.store.cache import BlockCache
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.mixing import mix_views, partners, sample_mix
from tinyvit_kd.views.render import render_views

SPECS = {"plain": VIEWS, "mixed": MIXED}
VIEWS_IN_STORE, EPOCHS = 5, 4


@pytest.fixture(scope="module", params=SPECS)
def stored(request: pytest.FixtureRequest, dumped: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world whose store has five views."""
    folder = tmp_path_factory.mktemp("several")
    for name in ("shards", "teacher"):
        (folder / name).symlink_to(dumped / name)
    store = {"path": str(folder / "store"), "topk": 5, "views": VIEWS_IN_STORE}
    dump_logits(World(folder).dump(views=SPECS[request.param], store=store), solo_job())
    return World(folder)


def plan_of(
    world: World,
    pairs_seed: int | None,
    views_per_sample: int,
    ranks: int = 1,
    rank: int = 0,
    stored: ViewSchedule | None = None,
) -> StepPlan:
    changes = {"views_per_sample": views_per_sample, "global_batch_size": 48, "epochs": EPOCHS}
    schedule = world.finetune().schedule.model_copy(update=changes)
    lengths = ShardSet.load(world.folder / "shards", "train").lengths.tolist()
    return StepPlan(tuple(lengths), schedule, rank_lanes(schedule.lanes, rank, ranks), pairs_seed, stored)


def stored_batches(world: World, views_per_sample: int, ranks: int = 1, rank: int = 0) -> StoredBatches:
    store = LogitStore.open(world.folder / "store")
    manifest = store.manifest
    reader = ShardSet.load(world.folder / "shards", "train").reader()
    samples = SampleViews(reader, ViewSpec.model_validate(manifest.view_spec), manifest.seed)
    views = ViewSchedule(views_per_sample, ((0, manifest.views),))
    plan = plan_of(world, manifest.seed if samples.spec.mixes else None, views_per_sample, ranks, rank, views)
    return StoredBatches(samples, (BlockCache(store, 1 << 20),), world.pretrain().store, plan)


@pytest.mark.parametrize("views_per_sample", [2, 3])
def test_a_stored_batch_holds_the_views_and_probabilities_of_the_store(stored: World, views_per_sample: int) -> None:
    make = stored_batches(stored, views_per_sample)
    read = cache(LogitStore.open(stored.store).read_block)
    seen = Counter[tuple[int, int, int]]()
    for step in range(make.plan.steps_per_epoch * EPOCHS):
        batch, (epoch, shards, indexes) = make(step), make.plan.samples(step)
        assert batch.targets is not None
        assert batch.checked == len(batch.views) == 48  # every digest is the teacher's
        for row in range(48):
            shard, index = int(shards[row // views_per_sample]), int(indexes[row // views_per_sample])
            view = (epoch * views_per_sample + row % views_per_sample) % VIEWS_IN_STORE
            record = read(shard, view)
            assert np.array_equal(batch.targets.indices[row], record.indices[index])
            assert np.array_equal(batch.targets.probs[row], record.probs[index])
            seen[epoch, shard, index] += 1
    assert set(seen.values()) == {views_per_sample}
    assert len(seen) == SAMPLES * EPOCHS


def test_ranks_share_a_batch_of_several_views(stored: World) -> None:
    whole, by_rank = stored_batches(stored, 3), [stored_batches(stored, 3, 2, rank) for rank in range(2)]
    for step in (0, 5):
        joined = np.concatenate([np.asarray(batches(step).views) for batches in by_rank])
        assert np.array_equal(joined, whole(step).views)


@pytest.mark.parametrize("name", SPECS)
def test_a_labelled_batch_holds_the_same_views_as_samples_rendered_alone(dumped: Path, name: str) -> None:
    world = World(dumped)
    spec = ViewSpec.model_validate(SPECS[name])
    reader = ShardSet.load(dumped / "shards", "train").reader()
    plan = plan_of(world, 0 if spec.mixes else None, 3)
    make = LabelledBatches(SampleViews(reader, spec, 0), "error", plan)
    for step in (0, 3):
        batch, (epoch, shards, indexes) = make(step), plan.samples(step)
        for row, view in enumerate(np.asarray(batch.views)):
            sample = int(shards[row // 3]), int(indexes[row // 3])
            number = 3 * epoch + row % 3
            assert np.array_equal(view, alone_and_mixed(reader, spec, sample, number, pairing_view=epoch))
            assert batch.labels is not None
            assert batch.labels[row] == reader.labels(sample[0], np.array([sample[1]]))[0]


def alone_and_mixed(
    reader: ShardReader, spec: ViewSpec, sample: tuple[int, int], number: int, pairing_view: int
) -> Any:
    """One view of one sample, rendered alone and then mixed."""
    shard, index = sample
    seed = view_seed(0, shard, index, number)
    own = render_views(reader.read(shard, index), [seed], spec)[0]
    partner = int(partners(0, shard, pairing_view, int(reader.shards.lengths[shard]))[index])
    if not spec.mixes or partner < 0:
        return own
    other = view_seed(0, shard, partner, number)
    mix = sample_mix(seed, other, spec)
    return own if mix is None else mix_views(own, render_views(reader.read(shard, partner), [other], spec)[0], mix)
