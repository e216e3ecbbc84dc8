"""A machine that slows down, or hiccups, does not decide which network is faster."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import pytest

from tinyvit_kd.contraction.turns import Pass, median_rate, ratios_in_turns, spread_of


class Machine:
    """A machine on which a pass takes its work times what the machine is slowed down by, at each moment."""

    def __init__(self, slowed: Callable[[int], float]) -> None:
        self.slowed, self.passes = slowed, 0

    def running(self, work: float) -> Pass:
        def one() -> float:
            self.passes += 1
            return work * self.slowed(self.passes)

        return one


@pytest.mark.parametrize("turns", [3, 4, 7])
def test_a_steady_drift_cancels_in_each_turn(turns: int) -> None:
    machine = Machine(lambda number: 1 + 0.1 * number)
    ratios = ratios_in_turns(machine.running(2.0), machine.running(1.0), turns)
    assert ratios == pytest.approx([2.0] * turns)
    assert spread_of(ratios) == pytest.approx(0)


def test_passes_one_after_the_other_would_be_misled_by_the_same_drift() -> None:
    machine = Machine(lambda number: 1 + 0.1 * number)
    base, other = machine.running(2.0), machine.running(1.0)
    alone = statistics.median(base() for _ in range(7)) / statistics.median(other() for _ in range(7))
    assert alone == pytest.approx(2.0 * 1.4 / 2.1)


@pytest.mark.parametrize("hiccups", [{4}, {5}, {4, 11}, {6, 7}])
def test_the_median_forgets_single_hiccups_and_the_spread_shows_them(hiccups: set[int]) -> None:
    machine = Machine(lambda number: 9.0 if number in hiccups else 1.0)
    ratios = ratios_in_turns(machine.running(2.0), machine.running(1.0), 7)
    assert statistics.median(ratios) == 2.0
    assert spread_of(ratios) > 1


def test_a_rate_is_the_median_of_its_turns() -> None:
    machine = Machine(lambda number: 50.0 if number == 2 else 1.0)
    rate, spread = median_rate(machine.running(0.5), 64, 5)
    assert rate == 128
    assert spread == pytest.approx(49)
