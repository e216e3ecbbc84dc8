"""Any number of views for any number of epochs: in turn or permuted, even if the store grows during a run."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.batches.view_schedule import ViewSchedule


def test_modulo_takes_the_next_views_in_turn() -> None:
    assert [ViewSchedule(1, ((0, 3),)).numbers(epoch) for epoch in range(5)] == [(0,), (1,), (2,), (0,), (1,)]
    assert [ViewSchedule(2, ((0, 3),)).numbers(epoch) for epoch in range(3)] == [(0, 1), (2, 0), (1, 2)]


@given(st.integers(1, 40), st.integers(0, 1 << 40), st.integers(0, 200))
def test_a_permuted_cycle_has_every_view_once(count: int, seed: int, cycle: int) -> None:
    views = ViewSchedule(1, ((0, count),), seed)
    cycle_views = [views.numbers(epoch)[0] for epoch in range(cycle * count, (cycle + 1) * count)]
    assert sorted(cycle_views) == list(range(count))


def test_every_cycle_and_every_seed_has_its_own_permutation() -> None:
    def cycle(seed: int, number: int) -> list[tuple[int, ...]]:
        return [ViewSchedule(1, ((0, 10),), seed).numbers(epoch) for epoch in range(number * 10, number * 10 + 10)]

    assert cycle(0, 0) == cycle(0, 0)
    assert cycle(0, 0) != cycle(0, 1)
    assert cycle(0, 0) != cycle(1, 0)


@given(st.integers(1, 6), st.integers(0, 12), st.none() | st.integers(0, 99), st.integers(0, 50))
def test_an_epoch_has_no_view_twice(chosen: int, more: int, seed: int | None, epoch: int) -> None:
    numbers = ViewSchedule(chosen, ((0, chosen + more),), seed).numbers(epoch)
    assert len(set(numbers)) == chosen
    assert set(numbers) <= set(range(chosen + more))


@pytest.mark.parametrize("seed", [None, 3])
def test_later_views_are_used_from_their_epoch_on_and_change_nothing_before(seed: int | None) -> None:
    before = ViewSchedule(1, ((0, 4),), seed)
    grown = before.grown(10, 6)
    assert [grown.numbers(epoch) for epoch in range(6)] == [before.numbers(epoch) for epoch in range(6)]
    assert Counter(grown.numbers(epoch) for epoch in range(6, 16)) == Counter((view,) for view in range(10))
    assert grown.used(range(6)) == [0, 1, 2, 3]
    assert grown.used(range(16)) == list(range(10))


def test_a_store_that_grows_twice_within_an_epoch_is_noted_once() -> None:
    views = ViewSchedule(1, ((0, 4),)).grown(6, 3)
    assert views.counts == ((0, 4), (3, 6))
    assert views.grown(9, 3).counts == ((0, 4), (3, 9))
    assert views.grown(9, 5).counts == ((0, 4), (3, 6), (5, 9))
    assert views.grown(6, 5) == views
    assert ViewSchedule(1, ((0, 4),)).grown(9, 0).counts == ((0, 9),)
