"""A machine that slows down, or hiccups, does not decide which network is faster."""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

import pytest

from tinyvit_kd.contraction.turns import Pass, rates_in_turns, ratios_in_turns, spread_of


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


def test_rates_are_those_of_single_passes() -> None:
    machine = Machine(lambda number: 50.0 if number == 2 else 1.0)
    rates = rates_in_turns(machine.running(0.5), 64, 5)
    assert statistics.median(rates) == 128
    assert spread_of(rates) == pytest.approx(49)


def test_a_quiet_machine_makes_no_more_turns_than_are_asked_for() -> None:
    machine = Machine(lambda number: 1 + 0.002 * (number % 3))
    assert len(ratios_in_turns(machine.running(2.0), machine.running(1.0), 7)) == 7
    assert machine.passes == 7 + 8


def test_a_noisy_machine_makes_more_turns_but_not_for_ever() -> None:
    drawn = random.Random(5)
    little = [len(ratios_in_turns(*noisy(drawn, 0.03), 7)) for _ in range(10)]
    assert 7 < statistics.mean(little) < 28
    assert len(ratios_in_turns(*noisy(drawn, 0.5), 7)) == 28


def test_more_turns_bring_the_median_nearer_to_the_truth() -> None:
    drawn = random.Random(5)

    def error(turns: int) -> float:
        found = (statistics.median(ratios_in_turns(*noisy(drawn, 0.3), 7)[:turns]) for _ in range(100))
        return statistics.mean(abs(each / 2 - 1) for each in found)

    assert error(28) < 0.7 * error(7)


def noisy(drawn: random.Random, deviation: float) -> tuple[Pass, Pass]:
    """Passes of twice the work and of the work on a machine where others compute now and then."""
    machine = Machine(lambda _: 1 + abs(drawn.gauss(0, deviation)))
    return machine.running(2.0), machine.running(1.0)
