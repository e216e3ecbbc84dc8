"""Limits tighten by the same factor from round to round, and a miss is said with its size."""

from __future__ import annotations

import pytest

from tinyvit_kd.config.contraction import LimitsConfig
from tinyvit_kd.contraction.limits import Considered, Limits, limits_of_round, misses, no_candidate, unreachable, used
from tinyvit_kd.contraction.records import Costs

MIB = 2**20
BASE = Costs(parameters=21_000_000, multiply_adds=4_000_000_000, memory_bytes=96 * MIB, moved_bytes=500 * MIB)


def costs(parameters: int = 1, multiply_adds: int = 1, memory_bytes: int = MIB) -> Costs:
    return Costs(parameters, multiply_adds, memory_bytes, moved_bytes=1)


def test_each_round_tightens_the_limits_by_the_same_factor_up_to_the_target() -> None:
    target = LimitsConfig(parameters=5e6, multiply_adds=1e9, images_per_second=800, memory_mib=24)
    rounds = [limits_of_round(target, BASE, 100.0, number, 4) for number in range(1, 5)]
    assert [each.multiply_adds for each in rounds] == pytest.approx([4e9 / 4 ** (n / 4) for n in range(1, 5)])
    assert [each.images_per_second for each in rounds] == pytest.approx([100 * 8 ** (n / 4) for n in range(1, 5)])
    assert [each.memory_mib for each in rounds] == pytest.approx([96 / 4 ** (n / 4) for n in range(1, 5)])
    assert rounds[-1] == Limits(5e6, 1e9, 800, 24)  # to the last bit


def test_a_limit_that_the_base_keeps_to_is_the_target_from_the_first_round_on() -> None:
    target = LimitsConfig(parameters=30e6, images_per_second=90, multiply_adds=1e9)
    first = limits_of_round(target, BASE, 100.0, 1, 4)
    assert (first.parameters, first.images_per_second) == (30e6, 90)
    assert first.multiply_adds == pytest.approx(4e9 / 4**0.25)


def test_a_search_of_one_round_has_the_target_at_once() -> None:
    assert limits_of_round(LimitsConfig(parameters=5e6), BASE, None, 1, 1) == Limits(parameters=5e6)


def test_misses_are_the_factors_of_those_limits_that_are_not_kept() -> None:
    limits = Limits(parameters=100, multiply_adds=1000, images_per_second=50, memory_mib=2)
    within = costs(100, 1000, 2 * MIB)
    assert misses(within, 50, limits) == {}
    assert misses(costs(150, 900, 3 * MIB), 25, limits) == {
        "parameters": 1.5,
        "images_per_second": 2.0,
        "memory_mib": 1.5,
    }


def test_a_throughput_that_is_not_known_is_no_miss() -> None:
    assert misses(costs(), None, Limits(images_per_second=50)) == {}


def test_the_error_names_the_shape_that_comes_nearest_and_for_each_limit_by_how_much() -> None:
    limits = Limits(parameters=5_500_000, images_per_second=450)
    considered = [
        Considered("slim", costs(5_600_000), 225.0),
        Considered("middle", costs(6_050_000), 420.0),
        Considered("quick", costs(11_000_000), 500.0),
        Considered("untimed", costs(21_000_000)),
    ]
    error = no_candidate(considered, limits, 3, 6)
    assert error.where == "limits, in round 3 of 6"
    assert error.expected == "at most 5,500,000 parameters, at least 450.0 images per second"
    assert error.found == (
        "of 4 shapes middle comes nearest: 6,050,000 parameters (10 % above the limit), "
        "420.0 images per second (6.7 % below the limit); "
        "nearest to limits.parameters is slim: 5,600,000 parameters (1.8 % above the limit); "
        "nearest to limits.images_per_second is quick: 500.0 images per second (within the limit)"
    )
    assert "loosen limits.parameters, limits.images_per_second" in error.fix
    assert not error.can_be_retried


def test_limits_that_the_nearest_shape_keeps_to_need_no_loosening() -> None:
    error = no_candidate([Considered("one", costs(8, 7, 3 * MIB))], Limits(8, 5, None, 3), 1, 1)
    assert "7 multiply-adds per image (40 % above the limit), 3.0 MiB of memory (within the limit)" in error.found
    assert error.fix.startswith("loosen limits.multiply_adds, raise")


def test_a_space_without_another_shape_is_said_to_be_at_its_end() -> None:
    error = no_candidate([], Limits(parameters=5), 2, 6)
    assert "smallest value" in error.what
    assert error.found == ""


def test_a_target_that_the_smallest_shape_misses_is_said_in_words_of_its_own() -> None:
    limits = Limits(parameters=10, multiply_adds=10)
    error = unreachable(Considered("w8", costs(12, 8)), limits)
    assert error.what == "even the smallest shape of the space misses the limits"
    assert error.where == "limits.parameters"
    assert error.found == "w8: 12 parameters (20 % above the limit), 8 multiply-adds per image (within the limit)"
    assert error.fix.startswith("loosen limits.parameters, or lower the smallest values in space")


def test_what_a_shape_uses_of_its_limits_is_their_geometric_mean_as_far_as_they_are_known() -> None:
    limits = Limits(parameters=100, images_per_second=50)
    assert used(Considered("one", costs(25), 50.0), limits) == pytest.approx(0.5)
    assert used(Considered("one", costs(25)), limits) == pytest.approx(0.25)
    assert used(Considered("one", costs(25)), Limits(images_per_second=50)) == 1.0
