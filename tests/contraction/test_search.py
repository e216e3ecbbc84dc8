"""Rounds over planted scores: the best shape within limits is found, and the budget goes where a recipe says."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

from tests.contraction import planted
from tests.contraction.planted import BASE, PlantedSearch, contract_config, costs_of, loss_of, rate_of
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.records import Candidate, Result
from tinyvit_kd.contraction.result_names import round_of
from tinyvit_kd.contraction.search import Task, rules_of
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.errors import ConfigError

ONE_ROUND = {"limits": {"parameters": 0.97 * costs_of(BASE).parameters}, "search": {"rounds": 1}}


def every_shape() -> list[Shape]:
    """All shapes of the space of ``contract_config``."""
    widths = [range(32, width + 1, 32) for width in BASE["widths"]]
    depths = [range(1, depth + 1) for depth in BASE["depths"]]
    return [
        BASE.with_factor("widths", each).with_factor("depths", other)
        for each in itertools.product(*widths)
        for other in itertools.product(*depths)
    ]


@pytest.mark.parametrize("world", range(6))
def test_the_planted_best_shape_within_the_limit_is_found(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if world:
        draw = random.Random(world)
        worth = {factor: tuple(draw.uniform(0.5, 3) for _ in each) for factor, each in planted.WORTH.items()}
        monkeypatch.setattr(planted, "WORTH", worth)
    config = contract_config(search={"rounds": 6, "bases": 4, "candidates": 40})
    limit = config.limits.parameters
    assert limit is not None
    best = min((shape for shape in every_shape() if costs_of(shape).parameters <= limit), key=loss_of)
    *_, last = PlantedSearch(config).run()
    assert last.front[0] == best.name
    assert last.limits == {"parameters": limit}


def test_shapes_one_move_away_are_all_candidates_and_fuller_ones_of_more_moves_fill_the_round_up() -> None:
    def candidates_of(wanted: int) -> list[Result]:
        limits = {"parameters": 0.9 * costs_of(BASE).parameters}
        config = contract_config(limits=limits, search={"rounds": 1, "candidates": wanted})
        (record,) = PlantedSearch(config).run()
        return record.results

    one_move = candidates_of(1)
    assert [steps_below(each.candidate.shape) for each in one_move] == [1, 1, 1]
    filled = candidates_of(8)
    assert [each.candidate for each in filled[:3]] == [each.candidate for each in one_move]
    two_moves = [each for each in candidates_of(100) if steps_below(each.candidate.shape) == 2]
    fullest = sorted(two_moves, key=lambda each: -each.costs.parameters)[:5]
    assert [each.candidate for each in filled[3:]] == [each.candidate for each in fullest]


def steps_below(shape: Shape) -> int:
    """How many moves lead from the base to a shape."""
    return int((sum(BASE["widths"]) - sum(shape["widths"])) / 32 + sum(BASE["depths"]) - sum(shape["depths"]))


def test_limits_tighten_and_each_round_contracts_the_best_of_the_one_before() -> None:
    rounds = PlantedSearch(contract_config()).run()
    limits = [record.limits["parameters"] for record in rounds]
    assert limits == sorted(limits, reverse=True)
    assert rounds[0].bases == (BASE.name,)
    for before, record in itertools.pairwise(rounds):
        assert record.bases == before.next_bases
        assert len(record.bases) <= 2
        assert {result.candidate.base for result in record.results} <= set(record.bases)
        assert all(result.costs.parameters <= record.limits["parameters"] for result in record.results)
        names = [result.candidate.shape.name for result in record.results]
        assert len(set(names)) == len(names)
    assert rounds[-1].next_bases == ()


def test_a_base_that_keeps_to_the_next_limits_stays_a_candidate() -> None:
    """Else each round would make it smaller than anybody asked for."""
    config = contract_config(limits={"parameters": 0.97 * costs_of(BASE).parameters}, search={"rounds": 3})
    *_, last = PlantedSearch(config).run()
    kept = [result.candidate for result in last.results if result.candidate.shape.name in last.bases]
    assert kept
    assert all(candidate.moves == () and candidate.base == candidate.shape.name for candidate in kept)


def test_candidates_are_halved_and_finalists_trained_with_further_seeds() -> None:
    searched = PlantedSearch(contract_config(**ONE_ROUND))
    (record,) = searched.run()
    count = len(record.results)
    assert count > 4
    rules = rules_of(searched.config)
    asked = Counter((task.part, task.seed) for task in searched.asked)
    second = rules.halving.stay(count)
    third = rules.halving.stay(second)
    assert asked == {(0, 0): count, (1, 0): second, (2, 0): third, (2, 1): 2}
    came_through = [result for result in record.results if result.out is None]
    assert len(came_through) == third
    assert all(result.timing is not None for result in came_through)
    assert {len(result.scores) for result in came_through} <= {3, 4}
    left = [result for result in record.results if result.out is not None]
    assert {result.out for result in left} == {
        f"worse than {second} others after 20 steps",
        f"worse than {third} others after 40 steps",
    }
    worst_kept = max(loss_of(result.candidate.shape) for result in came_through)
    assert all(loss_of(result.candidate.shape) >= worst_kept for result in left)


def test_a_limit_on_throughput_needs_timings_of_those_that_may_meet_it_alone() -> None:
    least = 2.5 * rate_of(BASE)
    searched = PlantedSearch(contract_config(limits={"images_per_second": least}, search={"rounds": 3}))
    rounds = searched.run()
    for record in rounds:
        candidates = [result for result in record.results if result.timing is not None]
        assert len(candidates) == len(record.results)  # all were timed before they were trained, and once
        assert len({result.candidate.shape.name for result in record.results}) == len(record.results)
        missed = [result for result in record.results if not result.scores]
        assert all("images_per_second" in (result.out or "") for result in missed)
        assert all(
            rate_of(result.candidate.shape) >= record.limits["images_per_second"]
            for result in record.results
            if result.scores
        )
    # However many may meet it by their predictions, which are too high here: three times the candidates are enough.
    assert max(len(record.results) for record in rounds) < 3 * 20 + 20
    shapes = {result.candidate.shape.name: result.candidate.shape for result in rounds[-1].results}
    assert rate_of(shapes[rounds[-1].front[0]]) >= least


def test_a_round_is_not_left_with_less_than_it_has_to_choose_from_because_many_were_timed() -> None:
    searched = contract_config(
        limits={"images_per_second": 1.6 * rate_of(BASE)}, search={"rounds": 1, "bases": 4, "candidates": 4}
    )
    (record,) = PlantedSearch(searched).run()
    assert sum(bool(result.scores) for result in record.results) == 4


def test_a_candidate_that_diverges_leaves_and_the_others_go_on() -> None:
    (healthy,) = PlantedSearch(contract_config(**ONE_ROUND)).run()
    (record,) = PlantedSearch(contract_config(**ONE_ROUND), frozenset({healthy.front[0]})).run()
    outs = {result.candidate.shape.name: result.out for result in record.results}
    assert outs[healthy.front[0]] == "it diverged"
    assert record.front
    assert healthy.front[0] not in record.front


def three_seeds() -> ContractConfig:
    return contract_config(**ONE_ROUND, proxy={"steps": 80, "rungs": 3, "finalists": 2, "seeds": 3})


@pytest.mark.parametrize("diverging", [(), (1,), (1, 2)])
def test_a_further_seed_that_diverges_is_left_out_and_its_finalist_stays(diverging: tuple[int, ...]) -> None:
    (healthy,) = PlantedSearch(three_seeds()).run()
    searched = PlantedSearch(three_seeds(), diverging_seeds=frozenset(diverging))
    (record,) = searched.run()
    results = {result.candidate.shape.name: result for result in record.results}
    assert record.front == healthy.front
    assert [name for name, result in results.items() if result.out is None] == [
        result.candidate.shape.name for result in healthy.results if result.out is None
    ]
    finalists = [result for result in results.values() if result.diverged == len(diverging)][:2]
    for result in finalists if diverging else ():
        assert [score.seed for score in result.scores] == [0, 0, 0, *(seed for seed in (1, 2) if seed not in diverging)]
    assert sum(result.diverged for result in results.values()) == 2 * len(diverging)
    assert searched.compared[:2] == [[seed for seed in range(3) if seed not in diverging]] * 2


def test_all_further_seeds_of_all_finalists_are_asked_for_at_once() -> None:
    searched = PlantedSearch(three_seeds())
    searched.run()
    assert len(searched.together) == 3 + 1  # parts, and further seeds
    assert [(task.seed, task.part) for task in searched.asked[-4:]] == [(1, 2), (1, 2), (2, 2), (2, 2)]
    assert searched.together[-1] == 4


def test_a_tasks_name_says_its_round() -> None:
    task = Task(12, Candidate(BASE), 1, seed=1)
    assert (round_of(task.name), round_of("notes"), round_of("round-x.w1")) == (12, None, None)


def test_a_round_in_which_all_diverge_says_so() -> None:
    (healthy,) = PlantedSearch(contract_config(**ONE_ROUND)).run()
    everyone = frozenset(result.candidate.shape.name for result in healthy.results)
    with pytest.raises(ConfigError, match=r"no candidate of round 1 could be trained.*it diverged"):
        PlantedSearch(contract_config(**ONE_ROUND), everyone).run()


def test_a_round_without_candidates_says_by_how_much_the_nearest_misses() -> None:
    config = contract_config(limits={"parameters": 1000.0}, search={"rounds": 1})
    with pytest.raises(ConfigError, match=r"no candidate keeps to the limits.*limits, in round 1 of 1"):
        PlantedSearch(config).run()
