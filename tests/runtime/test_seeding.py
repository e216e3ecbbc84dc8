"""The generator is pure, never changes, and has the right distributions."""

from __future__ import annotations

import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tinyvit_kd.runtime.seeding import Draws, hash64, hash64_range, mix64, permutation, view_seed

integers = st.integers(min_value=0, max_value=2**64 - 1)


def test_constants_are_those_of_splitmix64() -> None:
    # First outputs of SplitMix64 from state 0 (Java's SplittableRandom and xoshiro's reference code).
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert hash64_range(0, 0, 3).tolist() == expected
    assert mix64(0x9E3779B97F4A7C15) == expected[0]


def test_golden_values_never_change() -> None:
    assert hash64(1, 2, 3) == 0xECF6CADF90EFC6AD
    assert view_seed(0, 1, 2, 3) == 2387074722
    assert permutation(7, 8).tolist() == [1, 5, 7, 0, 4, 6, 3, 2]


@given(integers, st.integers(0, 500))
def test_a_permutation_holds_every_index_once(key: int, length: int) -> None:
    assert sorted(permutation(key, length).tolist()) == list(range(length))


@given(integers, st.integers(0, 50), st.integers(0, 50))
def test_a_range_of_draws_is_a_slice_of_the_stream(key: int, start: int, count: int) -> None:
    whole = hash64_range(key, 0, start + count)
    assert np.array_equal(hash64_range(key, start, start + count), whole[start:])


@given(st.lists(integers, max_size=4), st.lists(integers, max_size=4))
def test_hashes_of_different_tuples_differ(left: list[int], right: list[int]) -> None:
    assert (hash64(*left) == hash64(*right)) == (left == right)


@given(integers, st.integers(-1000, 1000), st.integers(0, 1000))
def test_integers_stay_within_their_bounds(seed: int, low: int, span: int) -> None:
    assert all(low <= Draws(seed).integer(low, low + span) <= low + span for _ in range(5))


def test_neighbouring_seeds_share_no_draws() -> None:
    streams = [{Draws(seed).bits() for _ in range(1)} | set(_bits(seed, 50)) for seed in range(50)]
    assert len(set.union(*streams)) == sum(map(len, streams))


def test_draws_have_their_distributions() -> None:
    draws = Draws(3)
    uniform = [draws.uniform(2, 5) for _ in range(20_000)]
    normal = [draws.gauss(1, 2) for _ in range(20_000)]
    whole = [draws.integer(0, 9) for _ in range(20_000)]
    assert stats.kstest(uniform, stats.uniform(2, 3).cdf).pvalue > 1e-3
    assert stats.kstest(normal, stats.norm(1, 2).cdf).pvalue > 1e-3
    assert stats.chisquare(np.bincount(whole)).pvalue > 1e-3


def test_global_generators_are_not_touched() -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[index]
    Draws(1).gauss(0, 1)
    permutation(1, 100)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert torch.equal(torch.get_rng_state(), before[2])


def _bits(seed: int, count: int) -> list[int]:
    draws = Draws(seed)
    return [draws.bits() for _ in range(count)]
