"""Mixed views in batches: the order keeps pairs together, so that each image is decoded once."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch

from benchmarks.tiny_world import MIXED, World, draw_shards, make_teacher
from tests.data.counting import CountingShards, Reads
from tinyvit_kd.batches.dump_batches import DumpBatches
from tinyvit_kd.batches.dump_tasks import Groups, tasks_of
from tinyvit_kd.batches.labelled_batches import LabelledBatches
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.stored_batches import StoredBatches
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.data.shards import ShardReader, ShardSet
from tinyvit_kd.errors import BadImageError
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.seeding import view_seed
from tinyvit_kd.stages.dump_logits import dump_logits
from tinyvit_kd.store.cache import BlockCache
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.mixing import mix_views, partners, sample_mix
from tinyvit_kd.views.render import render_views

SPEC = ViewSpec.model_validate(MIXED)
TWO_VIEWS = ViewSchedule(1, ((0, 2),))  # as many as a store here has
Sample = tuple[int, int]
Uint8 = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def mixed_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Shards of 40, 40 and 17 samples, with images that cannot be decoded, and a store of mixed views."""
    folder = tmp_path_factory.mktemp("mixed")
    draw_shards(folder, 97, broken=range(0, 97, 12))
    make_teacher(folder)
    dump_logits(World(folder).dump(views=MIXED), solo_job())
    return World(folder)


def _shards(world: World) -> ShardSet:
    return ShardSet.load(world.shards, "train")


def _plan(world: World, paired: bool = True, stored: ViewSchedule | None = None, **changes: int) -> StepPlan:
    schedule = world.finetune().schedule.model_copy(update=changes)
    lanes = rank_lanes(schedule.lanes, 0, 1)
    return StepPlan(tuple(_shards(world).lengths.tolist()), schedule, lanes, 0 if paired else None, stored)


def _labelled(shards: ShardSet, plan: StepPlan) -> LabelledBatches:
    return LabelledBatches(SampleViews(shards.reader(), SPEC, plan.schedule.seed), "hole", plan)


def _stored(world: World, shards: ShardSet, plan: StepPlan) -> StoredBatches:
    store = LogitStore.open(world.store)
    samples = SampleViews(shards.reader(), SPEC, store.manifest.seed)
    return StoredBatches(samples, (BlockCache(store, 1 << 20),), world.pretrain().store, plan)


def _samples(plan: StepPlan, step: int) -> tuple[int, list[Sample]]:
    epoch, shards, indexes = plan.samples(step)
    return epoch, list(zip(shards.tolist(), indexes.tolist(), strict=True))


def _alone(reader: ShardReader, base_seed: int, view: int, sample: Sample) -> tuple[Uint8, float, Sample] | None:
    """A mixed view rendered alone, its λ, and the sample that was mixed in; None for a hole."""
    shard, index = sample
    other = int(partners(base_seed, shard, view, int(reader.shards.lengths[shard]))[index])
    try:
        own = _unmixed(reader, base_seed, view, sample)
        mix = sample_mix(view_seed(base_seed, *sample, view), view_seed(base_seed, shard, other, view), SPEC)
    except BadImageError:
        return None
    if other < 0 or mix is None:
        return own, 1.0, sample
    try:
        return mix_views(own, _unmixed(reader, base_seed, view, (shard, other)), mix), mix.lam, (shard, other)
    except BadImageError:
        return own, 1.0, sample


def _unmixed(reader: ShardReader, base_seed: int, view: int, sample: Sample) -> Uint8:
    views = render_views(reader.read(*sample), [view_seed(base_seed, *sample, view)], SPEC)
    return views.reshape(3, SPEC.size, SPEC.size)


# An odd number of samples per lane splits pairs between steps. Without pairing, both of a pair are seldom in a batch.
ORDERS = pytest.mark.parametrize(
    ("paired", "batch"), [(True, 16), (True, 12), (False, 16)], ids=["whole pairs", "split pairs", "pairs apart"]
)


@ORDERS
def test_labelled_batches_hold_the_same_views_as_samples_rendered_alone(
    mixed_world: World, paired: bool, batch: int
) -> None:
    plan = _plan(mixed_world, paired, global_batch_size=batch)
    shards = _shards(mixed_world)
    batches = _labelled(shards, plan)
    reader = shards.reader()
    for step in range(2 * plan.steps_per_epoch):
        found = batches(step)
        epoch, samples = _samples(plan, step)
        assert found.mixed is not None
        for row, sample in enumerate(samples):
            expected = _alone(reader, 0, epoch, sample)
            assert found.weights[row] == (expected is not None)
            view, lam, partner = expected or (np.zeros_like(found.views[row]), 1.0, sample)
            other = partner if lam < 1 else sample
            assert np.array_equal(found.views[row], view)
            assert found.mixed.lam[row] == np.float32(lam)
            assert found.mixed.labels[row] == reader.labels(other[0], np.array([other[1]]))[0]


@ORDERS
def test_stored_batches_hold_the_same_views_as_samples_rendered_alone(
    mixed_world: World, paired: bool, batch: int
) -> None:
    plan = _plan(mixed_world, paired, TWO_VIEWS, global_batch_size=batch)
    shards = _shards(mixed_world)
    batches = _stored(mixed_world, shards, plan)
    reader = shards.reader()
    for step in range(3 * plan.steps_per_epoch):
        found = batches(step)
        epoch, samples = _samples(plan, step)
        for row, sample in enumerate(samples):
            expected = _alone(reader, 0, epoch % 2, sample)
            assert found.weights[row] == (expected is not None)
            assert np.array_equal(
                found.views[row], np.zeros_like(found.views[row]) if expected is None else expected[0]
            )
        assert found.checked == found.weights.sum()


def test_a_labelled_batch_decodes_each_image_once(mixed_world: World) -> None:
    plan = _plan(mixed_world)
    reads = Reads()
    batches = _labelled(CountingShards.of(_shards(mixed_world), reads), plan)
    for step in range(plan.steps_per_epoch):
        reads.clear()
        weights, (_, samples) = batches(step).weights, _samples(plan, step)
        assert set(reads) == set(samples)
        whole = [sample for sample, weight in zip(samples, weights, strict=True) if weight]
        assert {reads[sample] for sample in whole} == {1}


def test_batches_of_a_dump_decode_each_image_once_per_view_and_hold_what_the_store_has(mixed_world: World) -> None:
    """The store was dumped by batches of another size."""
    reads = Reads()
    store = LogitStore.open(mixed_world.store)
    shards = CountingShards.of(_shards(mixed_world), reads)
    lengths = shards.lengths.tolist()
    missing = np.ones((3, 3), dtype=np.bool_)
    batches = DumpBatches(SampleViews(shards.reader(), SPEC, 0), "hole", batch_size=8)
    compared = 0
    for task in tasks_of(iter(Groups(missing, lengths, views_per_decode=2, pairs_seed=0)), 8):
        batch = batches(task)
        rows = [(span.group.shard, view, index) for span in task for index in span.indexes for view in span.group.views]
        for row, (shard, view, index) in enumerate(rows):
            if view < 2:
                block = store.read_block(shard, view)
                assert (batch.seeds[row], batch.digests[row]) == (block.seeds[index], block.digests[index])
                compared += 1
    assert compared == 2 * 97
    broken = _broken(mixed_world)
    for shard, length in enumerate(lengths):
        for index in range(length):
            paired = {(shard, int(partners(0, shard, view, length)[index])) for view in range(3)}
            if (shard, index) not in broken and not paired & broken:
                assert reads[shard, index] == 3


def _broken(world: World) -> set[Sample]:
    store = LogitStore.open(world.store)
    statuses = {shard: store.read_block(shard, 0).status for shard in range(3)}
    return {(shard, int(index)) for shard, status in statuses.items() for index in np.flatnonzero(status)}


def test_a_stored_batch_decodes_each_image_once(mixed_world: World) -> None:
    plan = _plan(mixed_world, stored=TWO_VIEWS)
    reads = Reads()
    batches = _stored(mixed_world, CountingShards.of(_shards(mixed_world), reads), plan)
    for step in range(3 * plan.steps_per_epoch):
        reads.clear()
        weights, (_, samples) = batches(step).weights, _samples(plan, step)
        assert reads == Counter(sample for sample, weight in zip(samples, weights, strict=True) if weight)


def test_a_plan_with_pairs_can_be_sent_to_workers(mixed_world: World) -> None:
    plan = _plan(mixed_world, stored=TWO_VIEWS)
    there: StepPlan = pickle.loads(pickle.dumps(plan))
    assert there == plan
    assert all(np.array_equal(*columns) for columns in zip(there.samples(7)[1:], plan.samples(7)[1:], strict=True))


def test_ranks_share_a_batch_of_pairs(mixed_world: World) -> None:
    whole = _plan(mixed_world)
    shards = _shards(mixed_world)
    views = _labelled(shards, whole)(3).views
    halves = [
        _labelled(shards, StepPlan(whole.shard_lengths, whole.schedule, lanes, whole.pairs_seed))(3).views
        for lanes in (rank_lanes(4, 0, 2), rank_lanes(4, 1, 2))
    ]
    assert torch.equal(torch.cat(halves), views)
