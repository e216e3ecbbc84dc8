"""Who is the best: means over seeds with their errors, the Pareto front, and ties."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.contraction.made_searches import LIGHTER, NARROWER, NARROWEST, SHALLOWER, made_result
from tinyvit_kd.contraction.front import Standing, last_scores, pareto_front, standings, ties
from tinyvit_kd.contraction.sample_losses import Losses

HARDNESS = np.random.default_rng(0).normal(2.0, 1.0, 1000).astype(np.float32)  # of samples, the same for all


def standing(name: str, loss: float, *takes: float, error: float = 0.0, of_seeds: float = 0.0) -> Standing:
    return Standing(name, loss, error, takes, of_seeds)


def test_the_front_holds_those_that_no_other_one_beats() -> None:
    best, smaller = standing("best", 1.0, 9, 9), standing("smaller", 2.0, 5, 9)
    fewer_operations, beaten = standing("fewer operations", 3.0, 9, 5), standing("beaten", 2.5, 6, 9)
    assert pareto_front([best, smaller, beaten, fewer_operations]) == [best, smaller, fewer_operations]


def test_equal_candidates_do_not_beat_each_other() -> None:
    twins = [standing("one", 1.0, 5), standing("other", 1.0, 5)]
    assert pareto_front(twins) == twins


def test_of_equal_scores_the_smaller_one_is_on_the_front() -> None:
    assert [each.name for each in pareto_front([standing("large", 1.0, 6), standing("small", 1.0, 5)])] == ["small"]


def test_without_losses_scores_are_ties_within_twice_the_error_of_a_difference_of_independent_ones() -> None:
    one = standing("one", 1.0, error=0.03)
    near, far = standing("near", 1.09, error=0.04), standing("far", 1.11, error=0.04)  # twice hypot(3, 4) is 10
    assert ties([one, near], {}) == [("one", "near")]
    assert ties([one, far], {}) == []


def scored(name: str, losses: Losses, of_seeds: float = 0.0) -> Standing:
    """A candidate with these losses, and the errors that they have."""
    counted = losses[np.isfinite(losses)].astype(np.float64)
    of_samples = float(counted.std(ddof=1)) / math.sqrt(len(counted))
    return standing(name, float(counted.mean()), error=math.hypot(of_samples, of_seeds), of_seeds=of_seeds)


def test_a_small_difference_is_told_apart_where_the_samples_have_it_in_common() -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.02, len(HARDNESS)).astype(np.float32)
    losses = {"one": HARDNESS, "worse": HARDNESS + noise + np.float32(0.01)}
    found = [scored(name, each) for name, each in losses.items()]
    assert ties(found, {}) == [("one", "worse")]  # errors of 0.03 each
    assert ties(found, losses) == []  # an error of 0.0006
    assert ties(found, losses | {"worse": None}) == ties(found, {"one": HARDNESS}) == [("one", "worse")]


def test_a_difference_that_samples_do_not_agree_about_is_a_tie() -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.2, len(HARDNESS)).astype(np.float32)
    losses = {"one": HARDNESS, "other": HARDNESS + noise - noise.mean() + np.float32(0.01)}
    assert ties([scored(name, each) for name, each in losses.items()], losses) == [("one", "other")]  # 0.006 twice


def test_candidates_that_answer_alike_are_tied() -> None:
    found = [scored("one", HARDNESS), scored("twin", HARDNESS)]
    assert ties(found, {"one": HARDNESS, "twin": HARDNESS}) == [("one", "twin")]


def test_the_seeds_of_both_are_part_of_the_error_of_a_difference() -> None:
    """A constant difference has no error over samples: the threshold is twice hypot(0.3, 0.4), which is 1."""
    for apart, expected in ((0.99, [("one", "other")]), (1.01, [])):
        losses = {"one": HARDNESS, "other": HARDNESS + np.float32(apart)}
        found = [scored("one", losses["one"], of_seeds=0.3), scored("other", losses["other"], of_seeds=0.4)]
        assert ties(found, losses) == expected


def test_a_sample_that_is_a_hole_for_one_counts_for_no_difference() -> None:
    losses = {"one": HARDNESS.copy(), "other": HARDNESS.copy()}
    losses["one"][3] = math.nan
    losses["other"][3] = 1e6
    losses["other"][7] = math.nan
    found = [standing("one", 2.0), standing("other", 1002.0)]
    assert ties(found, {}) == []
    assert ties(found, losses) == [("one", "other")]


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
    assert standings([*several, single], [])[0].of_seeds == pytest.approx(math.sqrt(0.04 / 2))
    assert errors[NARROWER.name] == errors[SHALLOWER.name] == pytest.approx(math.hypot(0.01, math.sqrt(0.04 / 2)))
    assert errors[LIGHTER.name] == pytest.approx(math.hypot(0.01, math.sqrt(0.04)))
    alone = standings([single], [])[0]
    assert (alone.error, alone.of_seeds) == (0.01, 0.0)  # one seed says nothing of others


def test_throughput_is_taken_as_seconds_per_image_and_one_that_was_not_timed_is_slowest() -> None:
    timed = made_result(NARROWEST, 5e6, cross_entropies=(1.0,), rate=200.0)
    untimed = made_result(NARROWER, 6e6, cross_entropies=(2.0,), rate=None)
    found = standings([timed, untimed], ["images_per_second", "memory_mib", "multiply_adds"])
    assert found[0].takes == (1 / 200, 6 * 5e6 / 2**20, 200 * 5e6)
    assert found[1].takes[0] == math.inf
