"""A thinned curve hides nothing: every value lies in the band behind it, and means are of all that there is."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyvit_kd.reports.thinning import points_per_bin, positions, thinned

FINITE = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.lists(st.none() | st.floats(), min_size=1, max_size=60)


@given(st.integers(0, 100_000), st.integers(1, 1000))
def test_there_are_never_more_points_than_allowed(count: int, most: int) -> None:
    per_bin = points_per_bin(count, most)
    assert math.ceil(count / per_bin) <= most
    assert per_bin == 1 or math.ceil(count / (per_bin - 1)) > most, "and no fewer than needed"


@given(VALUES, st.integers(2, 9))
def test_every_finite_value_lies_between_the_edges_of_its_bin(values: list[float | None], per_bin: int) -> None:
    found = thinned(values, per_bin)
    assert found.low is not None
    assert found.high is not None
    assert len(found.middle) == len(found.low) == len(found.high) == math.ceil(len(values) / per_bin)
    for place, value in enumerate(values):
        low, middle, high = (each[place // per_bin] for each in (found.low, found.middle, found.high))
        if value is not None and math.isfinite(value):
            assert low is not None
            assert middle is not None
            assert high is not None
            assert low <= value <= high
            assert low <= middle <= high


@given(VALUES, st.integers(1, 9))
def test_values_that_are_not_finite_are_counted_and_in_no_mean(values: list[float | None], per_bin: int) -> None:
    found = thinned(values, per_bin)
    assert found.not_finite == sum(value is not None and not math.isfinite(value) for value in values)
    assert all(each is None or math.isfinite(each) for each in found.middle)


@given(st.lists(FINITE, min_size=1, max_size=60))
def test_a_short_curve_is_drawn_value_by_value(values: list[float]) -> None:
    found = thinned(values, 1)
    assert found.middle == values
    assert found.low is None
    assert found.high is None
    assert positions(values, 1) == values


def test_a_bin_without_values_is_a_gap() -> None:
    found = thinned([1.0, 2.0, None, math.nan, 5.0, 6.0], 2)
    assert found.middle == [1.5, None, 5.5]


def test_a_spike_of_one_value_shows() -> None:
    values = [0.0] * 999 + [100.0] + [0.0] * 1000
    found = thinned(values, 20)
    assert found.high is not None
    assert max(each or 0.0 for each in found.high) == 100
    assert max(each or 0.0 for each in found.middle) == pytest.approx(5)
