"""A round's budget is spent as a recipe says."""

from __future__ import annotations

import pytest

from tests.contraction.planted import contract_config
from tinyvit_kd.contraction.halving import Halving, part_ends
from tinyvit_kd.errors import ConfigError


@pytest.mark.parametrize(
    ("steps", "parts", "reduction", "ends"),
    [
        (2000, 3, 2.0, (500, 1000, 2000)),
        (900, 3, 3.0, (100, 300, 900)),
        (100, 1, 2.0, (100,)),
        (1000, 3, 1.5, (444, 667, 1000)),
        (2, 4, 2.0, (1, 2)),  # no part without steps
        (1, 3, 2.0, (1,)),
        (100, 1100, 2.0, (1, 2, 3, 6, 12, 25, 50, 100)),  # powers beyond any float
        (2000, 3, 1e200, (1, 2000)),
    ],
)
def test_the_last_part_ends_at_all_steps_and_each_earlier_one_sooner_by_the_reduction(
    steps: int, parts: int, reduction: float, ends: tuple[int, ...]
) -> None:
    assert part_ends(steps, parts, reduction) == ends


def test_more_parts_than_a_training_can_have_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"proxy\.rungs.*less than or equal to 100"):
        contract_config(proxy={"steps": 80, "rungs": 1100})


def test_of_so_many_candidates_one_goes_on_but_never_fewer_than_are_needed() -> None:
    halving = Halving((100, 300, 900), reduction=3.0, at_least=2)
    assert [halving.stay(count) for count in (20, 9, 4, 2, 1)] == [7, 3, 2, 2, 1]


def test_the_budget_of_a_round_is_the_sum_over_its_parts() -> None:
    halving = Halving((500, 1000, 2000), reduction=2.0, at_least=3)
    assert halving.parts(23) == [(23, 500), (12, 500), (6, 1000)]
    assert halving.steps(23) == 23 * 500 + 12 * 500 + 6 * 1000
    assert halving.parts(2) == [(2, 500), (2, 500), (2, 1000)]
