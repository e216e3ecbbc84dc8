"""The model finds what was planted, knows how far it errs, and leaves nothing out when it is not sure."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from tests.contraction.known_shapes import small, vit
from tinyvit_kd.contraction.cost_model import FEWEST, CostModel, Features, features_of, fitted, next_to_time
from tinyvit_kd.contraction.costs import costs_of

PLANTED = (3e-12, 5e-11, 2e-5, 1e-4)  # seconds per multiply-add, byte, block and image


def shapes(count: int, seed: int = 0) -> list[Features]:
    drawn = random.Random(seed)
    return [
        Features(drawn.uniform(1e9, 4e9), drawn.uniform(2e8, 5e8), float(drawn.randrange(8, 14))) for _ in range(count)
    ]


def seconds(features: Features) -> float:
    return sum(each * value for each, value in zip(PLANTED, features.row, strict=True))


def measured(
    features: list[Features], factor: Callable[[Features], float] = lambda _: 1.0
) -> list[tuple[Features, float]]:
    return [(each, 1 / (seconds(each) * factor(each))) for each in features]


def test_planted_coefficients_are_found_again() -> None:
    model = CostModel(measured(shapes(FEWEST)))
    assert model.coefficients == pytest.approx(PLANTED, rel=1e-6)
    (other,) = shapes(1, seed=1)
    assert model(other).rate == pytest.approx(1 / seconds(other))


def test_no_coefficient_is_negative_and_the_fit_is_the_best_of_those() -> None:
    rows = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]) / np.array([[1.0], [3.0], [5.0]])  # 2 a - b / 3 fits best
    found = fitted(rows)
    assert found[1] == 0
    assert found[0] == pytest.approx(rows[:, 0].sum() / (rows[:, 0] ** 2).sum())


def test_the_error_is_that_of_the_measurements_and_covers_shapes_that_were_not_measured() -> None:
    drawn = random.Random(7)
    model = CostModel(measured(shapes(40), lambda _: drawn.gauss(1, 0.05)))
    assert 0.03 < model.error < 0.08
    for each in shapes(50, seed=1):
        found = model(each)
        assert abs(found.rate * seconds(each) - 1) < 3 * found.error


def test_the_error_grows_with_the_distance_from_what_was_measured() -> None:
    drawn = random.Random(7)
    known = shapes(10)
    model = CostModel(measured(known, lambda _: drawn.gauss(1, 0.05)))
    far = Features(1e8, 1e9, 60.0)
    assert model(far).error > 2 * max(model(each).error for each in known)


def test_before_enough_is_measured_the_fewest_multiply_adds_come_first_and_none_is_left_out() -> None:
    waiting = shapes(5)
    chosen, out = next_to_time(waiting, measured(shapes(FEWEST - 1, seed=1)), least=1e9)
    assert chosen == min(range(5), key=lambda each: waiting[each].multiply_adds)
    assert out == {}


def test_what_is_foretold_to_be_fastest_comes_first_and_what_surely_misses_the_limit_is_left_out() -> None:
    waiting = shapes(20)
    rates = {number: 1 / seconds(each) for number, each in enumerate(waiting)}
    limit = sorted(rates.values())[10]
    chosen, out = next_to_time(waiting, measured(shapes(FEWEST, seed=1)), limit)
    assert chosen == max(rates, key=lambda each: rates[each])
    assert out
    for number, rate in rates.items():
        assert (number in out) == (out[number].most < limit if number in out else False)
        if rate >= limit:
            assert number not in out
        if rate < limit * 0.9:
            assert number in out
            assert out[number].rate == pytest.approx(rate)


def test_a_model_that_does_not_fit_leaves_out_nothing_that_it_cannot_be_sure_of() -> None:
    """Where throughput hangs on something else, errors are large, and a limit a little above is no reason."""
    drawn = random.Random(3)
    known = measured(shapes(8, seed=1), lambda _: drawn.choice([0.5, 1.0, 2.0]))
    waiting = shapes(20)
    limit = 1.3 / min(map(seconds, waiting))
    _, out = next_to_time(waiting, known, limit)
    assert out == {}


def test_without_a_limit_all_are_timed() -> None:
    chosen, out = next_to_time(shapes(3), measured(shapes(FEWEST, seed=1)), None)
    assert chosen is not None
    assert out == {}


def test_where_all_miss_the_limit_none_is_left_to_time() -> None:
    chosen, out = next_to_time(shapes(3), measured(shapes(FEWEST, seed=1)), 1e9)
    assert chosen is None
    assert set(out) == {0, 1, 2}


def test_blocks_are_those_of_all_stages() -> None:
    assert features_of(small(depth=2), costs_of(small(depth=2), 10, 64)).blocks == 8
    assert features_of(vit(64, 3), costs_of(vit(64, 3), 10, 32)).blocks == 3
