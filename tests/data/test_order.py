"""The order is a permutation, does not depend on the number of processes, and can be entered at any step."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.data.order import EpochOrder, check_lanes, rank_lanes
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.seeding import hash64, permutation

lengths = st.lists(st.integers(0, 40), min_size=1, max_size=12)
lanes = st.integers(1, 9)
windows = st.integers(1, 50)
paired = st.booleans()


def _pairs(shard_lengths: list[int], shard: int) -> npt.NDArray[np.int64]:
    """A shard's samples, pair after pair."""
    return permutation(hash64(11, shard), shard_lengths[shard])


def _order(shard_lengths: list[int], lanes: int, window: int, paired: bool = False, epoch: int = 0) -> EpochOrder:
    pairs = partial(_pairs, shard_lengths) if paired else None
    return EpochOrder(7, epoch, np.array(shard_lengths, dtype=np.int64), lanes, window, pairs)


def _samples(order: EpochOrder, lane: int) -> list[tuple[int, int]]:
    shards, indexes = order.lane(lane, 0, order.lane_length(lane))
    assert shards.dtype == indexes.dtype == np.int32
    return list(zip(shards.tolist(), indexes.tolist(), strict=True))


def _partners(shard_lengths: list[int]) -> dict[tuple[int, int], tuple[int, int]]:
    """The partner of each sample that is in a pair."""
    partners: dict[tuple[int, int], tuple[int, int]] = {}
    for shard, length in enumerate(shard_lengths):
        samples = [(shard, index) for index in _pairs(shard_lengths, shard).tolist()]
        for first in range(0, length - 1, 2):
            one, other = samples[first : first + 2]
            partners |= {one: other, other: one}
    return partners


@given(lengths, lanes, windows, paired, st.integers(0, 3))
def test_an_epoch_visits_every_sample_once(
    shard_lengths: list[int], lanes: int, window: int, paired: bool, epoch: int
) -> None:
    order = _order(shard_lengths, lanes, window, paired, epoch)
    visited = [sample for lane in range(lanes) for sample in _samples(order, lane)]
    everything = [(shard, index) for shard, length in enumerate(shard_lengths) for index in range(length)]
    assert sorted(visited) == everything


@given(lengths, lanes, windows, paired)
def test_lanes_differ_in_length_by_one_sample_or_one_pair_at_most(
    shard_lengths: list[int], lanes: int, window: int, paired: bool
) -> None:
    order = _order(shard_lengths, lanes, window, paired)
    found = [order.lane_length(lane) for lane in range(lanes)]
    assert sum(found) == sum(shard_lengths)
    assert max(found) - min(found) <= 1 + paired
    assert order.steps(lanes) == min(found)


@given(lengths, lanes, windows)
def test_every_epoch_has_the_same_number_of_steps(shard_lengths: list[int], lanes: int, window: int) -> None:
    orders = [_order(shard_lengths, lanes, window, True, epoch) for epoch in range(4)]
    assert len({order.steps(lanes) for order in orders}) == 1


@given(lengths, lanes, windows)
def test_both_samples_of_a_pair_follow_each_other_in_one_lane(
    shard_lengths: list[int], lanes: int, window: int
) -> None:
    order = _order(shard_lengths, lanes, window, paired=True)
    partners = _partners(shard_lengths)
    for lane in range(lanes):
        samples = _samples(order, lane)
        for first in range(0, len(samples) - 1, 2):
            one, other = samples[first : first + 2]
            assert partners.get(one, other) == other
            assert partners.get(other, one) == one
        assert len(samples) % 2 == 0 or samples[-1] not in partners


@given(lengths, lanes, windows, st.integers(1, 3))
def test_lanes_that_give_an_even_number_of_samples_give_whole_pairs(
    shard_lengths: list[int], lanes: int, window: int, half: int
) -> None:
    order = _order(shard_lengths, lanes, window, paired=True)
    partners = _partners(shard_lengths)
    batch = 2 * half * lanes
    for step in range(order.steps(batch)):
        shards, indexes = order.batch(step, batch, range(lanes))
        samples = list(zip(shards.tolist(), indexes.tolist(), strict=True))
        assert all(partners.get(sample, sample) in samples for sample in samples)


@given(st.integers(1, 40), st.data(), lanes, windows, paired)
def test_a_window_touches_no_more_shards_than_it_can_overlap(
    shortest: int, data: st.DataObject, lanes: int, window: int, paired: bool
) -> None:
    shard_lengths = data.draw(st.lists(st.integers(shortest, 2 * shortest), min_size=1, max_size=12))
    order = _order(shard_lengths, lanes, window, paired)
    even = shortest - shortest % 2 if paired else shortest  # the last sample of an odd shard moves
    overlapped = (order.window - 2) // max(even, 1) + 2
    for lane in range(lanes):
        shards = [shard for shard, _ in _samples(order, lane)]
        for start in range(0, len(shards), order.window):
            touched = len(set(shards[start : start + order.window]))
            assert touched <= overlapped + paired * (overlapped // 2 + 1)


@given(lengths, lanes, windows, paired, st.integers(0, 60), st.integers(0, 60))
def test_any_range_of_a_lane_is_a_slice_of_the_whole_lane(
    shard_lengths: list[int], lanes: int, window: int, paired: bool, start: int, count: int
) -> None:
    order = _order(shard_lengths, lanes, window, paired)
    stop = min(start + count, order.lane_length(0))
    start = min(start, stop)
    shards, indexes = order.lane(0, start, stop)
    assert list(zip(shards.tolist(), indexes.tolist(), strict=True)) == _samples(order, 0)[start:stop]


@given(lengths, windows, paired, st.sampled_from([1, 2, 3, 4, 6, 12]), st.integers(1, 3))
def test_ranks_partition_every_batch(
    shard_lengths: list[int], window: int, paired: bool, world: int, share: int
) -> None:
    order = _order(shard_lengths, 12, window, paired)
    batch = 12 * share
    for step in range(order.steps(batch)):
        whole = order.batch(step, batch, range(12))
        by_rank = [order.batch(step, batch, rank_lanes(12, rank, world)) for rank in range(world)]
        assert {len(shards) for shards, _ in by_rank} == {batch // world}
        for column in range(2):
            assert np.array_equal(np.concatenate([each[column] for each in by_rank]), whole[column])


@given(lengths, lanes, windows, paired, st.integers(1, 3), st.integers(0, 100))
def test_a_run_resumed_at_any_step_sees_the_remaining_batches(
    shard_lengths: list[int], lanes: int, window: int, paired: bool, share: int, begin: int
) -> None:
    order = _order(shard_lengths, lanes, window, paired)
    batch = share * lanes
    whole = [order.batch(step, batch, range(lanes)) for step in range(order.steps(batch))]
    resumed = _order(shard_lengths, lanes, window, paired)
    for step in range(begin, order.steps(batch)):
        assert np.array_equal(resumed.batch(step, batch, range(lanes)), whole[step])


def test_golden_values_never_change() -> None:
    shards, indexes = _order([3, 0, 5, 4], 2, 4).batch(1, 4, range(2))
    assert shards.tolist() == [0, 0, 2, 2]
    assert indexes.tolist() == [2, 0, 2, 0]


def test_golden_values_of_pairs_never_change() -> None:
    shards, indexes = _order([3, 0, 5, 4], 2, 4, paired=True).batch(0, 8, range(2))
    assert shards.tolist() == [3, 3, 0, 0, 2, 2, 2, 2]
    assert indexes.tolist() == [0, 3, 0, 2, 0, 1, 3, 2]


def test_epochs_and_seeds_differ() -> None:
    shard_lengths = np.full(20, 50, dtype=np.int64)
    orders = [EpochOrder(seed, epoch, shard_lengths, 4, 64) for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert len({order.lane(0, 0, 250)[1].tobytes() for order in orders}) == 4


def test_a_lane_reads_its_shards_nearly_in_sequence() -> None:
    order = EpochOrder(0, 0, np.full(100, 1000, dtype=np.int64), 8, 500)
    for lane in range(8):
        shards = order.lane(lane, 0, order.lane_length(lane))[0]
        per_window = [len(set(shards[start : start + 500].tolist())) for start in range(0, len(shards), 500)]
        assert max(per_window) <= 2


def test_a_batch_mixes_shards() -> None:
    order = EpochOrder(0, 0, np.full(100, 1000, dtype=np.int64), 16, 500)
    assert len(set(order.batch(3, 64, range(16))[0].tolist())) >= 15


def test_windows_are_shuffled_evenly() -> None:
    orders = [EpochOrder(0, epoch, np.array([64], dtype=np.int64), 1, 64) for epoch in range(2000)]
    first = np.array([order.lane(0, 0, 1)[1][0] for order in orders])
    counts = np.bincount(first, minlength=64)
    assert ((counts - 31.25) ** 2 / 31.25).sum() < 120  # chi-square, 63 degrees of freedom, p ~ 1e-5


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_ranks_own_equal_and_disjoint_lanes(world: int) -> None:
    owned = [list(rank_lanes(64, rank, world)) for rank in range(world)]
    assert [lane for lanes in owned for lane in lanes] == list(range(64))
    assert {len(lanes) for lanes in owned} == {64 // world}


@pytest.mark.parametrize(
    ("lanes", "batch", "world", "hints"),
    [
        (64, 1000, 8, ["lanes to 40 or 200", "global_batch_size to 960 or 1024"]),
        (8, 1024, 3, ["start 2 or 4 processes", "set lanes to 9 and global_batch_size to 1017 or 1026"]),
        (10, 1024, 4, ["lanes to 8 or 16", "set lanes to 8 and global_batch_size to 1024"]),
        (64, 32, 8, ["lanes to 32", "set global_batch_size to 64"]),
    ],
    ids=["batch", "no lanes fit", "lanes", "batch smaller than lanes"],
)
def test_lanes_that_do_not_fit_are_refused_with_the_nearest_that_do(
    lanes: int, batch: int, world: int, hints: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_lanes(lanes, batch, world)
    for hint in hints:
        assert hint in str(caught.value)


def test_a_batch_size_that_does_not_fit_the_views_per_sample_is_refused_with_the_nearest_that_do() -> None:
    with pytest.raises(ConfigError, match=r"3 views per sample.*global_batch_size to 12 or 24"):
        check_lanes(4, 16, 1, views_per_sample=3)
    check_lanes(4, 24, 2, views_per_sample=3)


@given(st.integers(1, 70), st.integers(1, 300), st.integers(1, 9))
def test_exactly_the_lanes_that_fit_pass_the_check(lanes: int, batch: int, world: int) -> None:
    fits = lanes % world == 0 and batch % lanes == 0
    try:
        check_lanes(lanes, batch, world)
    except ConfigError:
        assert not fits
    else:
        assert fits
