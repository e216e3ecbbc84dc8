"""Who is the best: means over seeds with their errors, the Pareto front, and ties."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tests.contraction.made_searches import LIGHTER, NARROWER, NARROWEST, SHALLOWER, made_result
from tinyvit_kd.contraction.front import Standing, last_scores, pareto_front, standings, ties


def standing(name: str, loss: float, *takes: float, error: float = 0.0) -> Standing:
    return Standing(name, loss, error, takes)


def test_the_front_holds_those_that_no_other_one_beats() -> None:
    best, smaller = standing("best", 1.0, 9, 9), standing("smaller", 2.0, 5, 9)
    fewer_operations, beaten = standing("fewer operations", 3.0, 9, 5), standing("beaten", 2.5, 6, 9)
    assert pareto_front([best, smaller, beaten, fewer_operations]) == [best, smaller, fewer_operations]


def test_equal_candidates_do_not_beat_each_other() -> None:
    twins = [standing("one", 1.0, 5), standing("other", 1.0, 5)]
    assert pareto_front(twins) == twins


def test_of_equal_scores_the_smaller_one_is_on_the_front() -> None:
    assert [each.name for each in pareto_front([standing("large", 1.0, 6), standing("small", 1.0, 5)])] == ["small"]


def test_scores_are_ties_within_twice_the_error_of_their_difference() -> None:
    one = standing("one", 1.0, error=0.03)
    near, far = standing("near", 1.09, error=0.04), standing("far", 1.11, error=0.04)  # twice hypot(3, 4) is 10
    assert ties([one, near]) == [("one", "near")]
    assert ties([one, far]) == []


def test_the_best_come_first_by_the_mean_over_seeds_of_the_furthest_scores() -> None:
    steady = made_result(NARROWER, 5e6, cross_entropies=(2.0, 2.0))
    varying = made_result(SHALLOWER, 4e6, cross_entropies=(1.7, 2.1))
    varying.scores.insert(0, replace(varying.scores[0], cross_entropy=9.0, steps=100))  # of an earlier part
    assert [score.cross_entropy for score in last_scores(varying)] == [1.7, 2.1]
    found = standings([steady, varying], ["parameters"])
    assert [(each.name, each.takes) for each in found] == [(SHALLOWER.name, (4e6,)), (NARROWER.name, (5e6,))]
    assert found[0].loss == pytest.approx(1.9)


def test_the_variance_of_seeds_is_pooled_and_counts_for_those_with_one_seed_too() -> None:
    several = [
        made_result(NARROWER, 5e6, cross_entropies=(1.0, 1.4)),  # variance 0.08
        made_result(SHALLOWER, 4e6, cross_entropies=(2.0, 2.0)),  # variance 0
    ]
    single = made_result(LIGHTER, 3e6, cross_entropies=(3.0,))
    errors = {each.name: each.error for each in standings([*several, single], [])}
    assert errors[NARROWER.name] == errors[SHALLOWER.name] == pytest.approx(math.hypot(0.01, math.sqrt(0.04 / 2)))
    assert errors[LIGHTER.name] == pytest.approx(math.hypot(0.01, math.sqrt(0.04)))
    assert standings([single], [])[0].error == 0.01  # one seed says nothing of others


def test_throughput_is_taken_as_seconds_per_image_and_one_that_was_not_timed_is_slowest() -> None:
    timed = made_result(NARROWEST, 5e6, cross_entropies=(1.0,), rate=200.0)
    untimed = made_result(NARROWER, 6e6, cross_entropies=(2.0,), rate=None)
    found = standings([timed, untimed], ["images_per_second", "memory_mib", "multiply_adds"])
    assert found[0].takes == (1 / 200, 6 * 5e6 / 2**20, 200 * 5e6)
    assert found[1].takes[0] == math.inf
