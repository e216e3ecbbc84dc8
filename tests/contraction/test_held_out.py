"""Which shards are held out, and that plans which leave shards out never touch them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.batches.shard_uses import PlannedUses
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.contraction.held_out import split_shards
from tinyvit_kd.errors import StoreError

LENGTHS = (7, 12, 0, 9, 8, 15, 3, 11)


@given(
    lengths=st.lists(st.integers(0, 9), min_size=2, max_size=40).filter(lambda each: sum(map(bool, each)) > 1),
    fraction=st.floats(0.001, 0.999),
    seed=st.integers(0, 1 << 40),
)
def test_whole_shards_are_held_out_at_least_one_and_never_all(lengths: list[int], fraction: float, seed: int) -> None:
    split = split_shards(lengths, fraction, seed, "store")
    filled = sum(map(bool, lengths))
    assert 1 <= len(split.held_out) < filled
    assert abs(len(split.held_out) - fraction * filled) <= 1
    assert all(lengths[shard] for shard in split.held_out)
    assert list(split.held_out) == sorted(set(split.held_out))
    assert [one + other for one, other in zip(split.trained, split.scored, strict=True)] == lengths
    assert not any(one and other for one, other in zip(split.trained, split.scored, strict=True))
    assert split_shards(lengths, fraction, seed, "store") == split


def test_the_seed_decides_which_shards_are_held_out() -> None:
    assert {split_shards((5,) * 10, 0.1, seed, "store").held_out for seed in range(100)} == {(s,) for s in range(10)}


@pytest.mark.parametrize("lengths", [(), (5,), (0, 5, 0)])
def test_fewer_than_two_shards_are_refused(lengths: tuple[int, ...]) -> None:
    with pytest.raises(StoreError, match="a store without held-out blocks") as told:
        split_shards(lengths, 0.5, 0, "/data/store")
    assert told.value.where == "/data/store"
    assert "more shards" in told.value.fix


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_runs_hold_every_held_out_sample_once(size: int) -> None:
    split = split_shards(LENGTHS, 0.5, 3, "store")
    samples = [(shard, index) for shard, start, stop in split.runs(size) for index in range(start, stop)]
    assert samples == [(shard, index) for shard in split.held_out for index in range(LENGTHS[shard])]
    assert all(0 < stop - start <= size for _, start, stop in split.runs(size))


@pytest.mark.parametrize("pairs_seed", [None, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_plan_leaves_out_shards_of_length_zero_and_nothing_else(pairs_seed: int | None, seed: int) -> None:
    split = split_shards(LENGTHS, 0.4, seed, "store")
    schedule = ScheduleConfig(epochs=3, global_batch_size=4, lanes=2, window=6, seed=seed)
    stored = ViewSchedule(1, ((0, 2),))
    plan = StepPlan(split.trained, schedule, range(2), pairs_seed, stored)
    steps = plan.steps_per_epoch
    left = [(shard, index) for shard, length in enumerate(split.trained) for index in range(length)]
    for epoch in range(3):
        seen = [
            (int(shard), int(index))
            for step in range(epoch * steps, (epoch + 1) * steps)
            for shard, index in zip(*plan.samples(step)[1:], strict=True)
        ]
        assert len(set(seen)) == len(seen) == 4 * steps
        assert set(seen) <= set(left)
        assert len(left) - len(seen) < 4 + 2 * 2  # no whole step, from lanes of about equal length
    names = [str(shard) for shard in range(len(LENGTHS))]
    used = {int(use.location) for use in PlannedUses(plan, names, range(3 * steps), range(2))}
    assert used == {shard for shard, length in enumerate(split.trained) if length}


def test_shards_of_length_zero_take_no_room() -> None:
    schedule = ScheduleConfig(epochs=1, global_batch_size=8, lanes=4, window=12)
    few = StepPlan((6,) * 20, schedule, range(4))
    many = replace(few, shard_lengths=(6,) * 20 + (0,) * 500)
    assert many.blocks_at_a_time() == few.blocks_at_a_time()
    assert many.shards_at_a_time == few.shards_at_a_time < 20
    assert replace(few, shard_lengths=(0, 0)).shards_at_a_time == 1
