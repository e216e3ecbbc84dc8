"""Shapes are timed once, in turns with a base, and not at all where that is not needed."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.contraction.known_shapes import small, tiny_vit
from tinyvit_kd.config.contraction import HardwareConfig
from tinyvit_kd.contraction.cost_model import FEWEST
from tinyvit_kd.contraction.costs import costs_of
from tinyvit_kd.contraction.records import Costs
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.contraction.throughput import Reckoning, Stopwatch
from tinyvit_kd.contraction.timings_folder import TimingsFolder
from tinyvit_kd.contraction.turns import Pass

BATCH, TURNS = 16, 3
BASE = small(depth=4, width=128)
LOWER = [small(depth, width) for depth in (1, 2, 3) for width in (32, 64, 96)]
costs = partial(costs_of, num_classes=10, image_size=32)


class Machine:
    """Runs passes in a time that follows from a shape's multiply-adds, at a speed that can be changed."""

    def __init__(self) -> None:
        self.slowed, self.made = 1.0, list[str]()

    def __call__(self, shape: Shape) -> Pass:
        self.made.append(shape.name)
        return lambda: self.slowed * self.seconds(shape)

    def seconds(self, shape: Shape) -> float:
        return BATCH * (1e-3 + 1e-9 * costs(shape).multiply_adds)

    def rate(self, shape: Shape) -> float:
        return BATCH / self.seconds(shape)


def stopwatch(machine: Machine, folder: Path, setting: dict[str, Any] | None = None) -> Stopwatch:
    known = TimingsFolder(folder, setting or {"batch_size": BATCH})
    return Stopwatch(costs, machine, known, BATCH, TURNS, "a planted machine")


def test_images_per_second_are_those_of_the_base_times_the_ratio(tmp_path: Path) -> None:
    machine = Machine()
    watch = stopwatch(machine, tmp_path)
    found = watch.measure(BASE, [BASE])[BASE.name]
    assert (found.over_base, found.how, found.machine) == (1, "measured", "a planted machine")
    assert found.images_per_second == pytest.approx(machine.rate(BASE))
    machine.slowed = 5.0  # by something else, which begins to run
    for name, timing in watch.measure(BASE, LOWER[:2]).items():
        (shape,) = (each for each in LOWER if each.name == name)
        assert timing.images_per_second == pytest.approx(machine.rate(shape))
        assert timing.over_base == pytest.approx(machine.rate(shape) / machine.rate(BASE))
        assert timing.spread == pytest.approx(0)


def test_the_base_of_a_later_round_keeps_the_throughput_that_it_had_as_a_candidate(tmp_path: Path) -> None:
    machine = Machine()
    watch = stopwatch(machine, tmp_path)
    first = watch.measure(BASE, [LOWER[-1]])[LOWER[-1].name]
    machine.slowed = 3.0
    second = watch.measure(LOWER[-1], [LOWER[0], LOWER[-1], BASE])
    assert second[LOWER[0].name].images_per_second == pytest.approx(machine.rate(LOWER[0]))
    assert second[LOWER[-1].name].images_per_second == first.images_per_second
    assert second[LOWER[-1].name].over_base == 1
    assert second[BASE.name].over_base == pytest.approx(1 / first.over_base)


def test_what_one_process_has_measured_another_does_not_measure_again(tmp_path: Path) -> None:
    first = stopwatch(Machine(), tmp_path).measure(BASE, LOWER[:3])
    machine = Machine()
    machine.slowed = 9.0
    assert stopwatch(machine, tmp_path).measure(BASE, LOWER[:3]) == first
    assert machine.made == []


def test_another_setting_is_measured_anew(tmp_path: Path) -> None:
    stopwatch(Machine(), tmp_path).measure(BASE, LOWER[:1])
    machine = Machine()
    stopwatch(machine, tmp_path, {"batch_size": BATCH, "precision": "bfloat16"}).measure(BASE, LOWER[:1])
    assert machine.made == [BASE.name, LOWER[0].name]


DAMAGE: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "cut off": lambda text: text[:-20],
    "a field is missing": lambda text: text.replace("spread", "width"),
    "a rate is text": lambda text: re.sub(r'("images_per_second": )[\d.]+', r'\1"fast"', text),
    "a rate is negative": lambda text: re.sub(r'("images_per_second": )', r"\1-", text),
    "a feature is no number": lambda text: re.sub(r'("moved_bytes": )\d+', r"\1NaN", text),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_measured_and_written_again(tmp_path: Path, damage: Callable[[str], str]) -> None:
    first = stopwatch(Machine(), tmp_path).measure(BASE, LOWER[:1])
    (path,) = tmp_path.glob(f"*/{LOWER[0].name}.json")
    path.write_text(damage(path.read_text()))
    machine = Machine()
    assert stopwatch(machine, tmp_path).measure(BASE, LOWER[:1]) == first
    assert machine.made == [BASE.name, LOWER[0].name]
    assert stopwatch(machine, tmp_path).measure(BASE, LOWER[:1]) == first
    assert len(machine.made) == 2


def test_of_two_processes_that_measure_the_same_shape_the_first_to_write_counts(tmp_path: Path) -> None:
    class Overtaken(Machine):
        def __call__(self, shape: Shape) -> Pass:
            if shape.name != BASE.name:
                stopwatch(Machine(), tmp_path).measure(BASE, [shape])
            self.slowed *= 2  # in the middle of a turn, so that its own ratio is another one
            return super().__call__(shape)

    found = stopwatch(Overtaken(), tmp_path).measure(BASE, LOWER[:1])
    assert found == stopwatch(Machine(), tmp_path).measure(BASE, LOWER[:1])


def test_shapes_that_surely_miss_the_limit_are_predicted_and_not_timed(tmp_path: Path) -> None:
    machine = Machine()
    watch = stopwatch(machine, tmp_path)
    ranked = sorted(LOWER, key=machine.rate, reverse=True)
    least = 0.99 * machine.rate(ranked[FEWEST - 2])
    found = watch.measure(BASE, LOWER, least)
    assert list(found) == [shape.name for shape in LOWER]
    timed = {shape.name for shape in LOWER if found[shape.name].how == "measured"}
    assert timed == set(machine.made) - {BASE.name}
    assert {shape.name for shape in ranked[: FEWEST - 1]} <= timed
    predicted = [shape for shape in LOWER if shape.name not in timed]
    assert len(predicted) >= 2
    for shape in predicted:
        timing = found[shape.name]
        assert timing.how == "predicted"
        assert timing.images_per_second == pytest.approx(machine.rate(shape), rel=0.05)
        assert timing.images_per_second * (1 + 3 * timing.spread) < least


def test_a_prediction_is_no_measurement_for_those_who_come_later(tmp_path: Path) -> None:
    machine = Machine()
    found = stopwatch(machine, tmp_path).measure(BASE, LOWER, 0.99 * max(map(machine.rate, LOWER)))
    left_out = [shape for shape in LOWER if found[shape.name].how == "predicted"]
    later = stopwatch(machine, tmp_path).measure(BASE, left_out)
    assert {timing.how for timing in later.values()} == {"measured"}


def test_predictions_begin_when_enough_is_measured_and_are_the_most_that_can_be_expected(tmp_path: Path) -> None:
    machine = Machine()
    watch = stopwatch(machine, tmp_path)
    watch.measure(BASE, LOWER[: FEWEST - 2])
    assert watch.predict(LOWER[-1]) is None
    assert watch.predict(LOWER[0]) == pytest.approx(machine.rate(LOWER[0]))
    watch.measure(BASE, LOWER[: FEWEST - 1])
    foretold = watch.predict(LOWER[-1])
    assert foretold is not None
    assert machine.rate(LOWER[-1]) < foretold < 1.3 * machine.rate(LOWER[-1])
    another = stopwatch(machine, tmp_path)  # of a process that has measured nothing
    assert another.predict(LOWER[-1]) == pytest.approx(foretold)


def test_given_figures_are_a_roofline_over_computing_and_moving() -> None:
    known = {
        "computes": Costs(parameters=100, multiply_adds=8000, memory_bytes=1, moved_bytes=4 * 300),
        "moves": Costs(parameters=100, multiply_adds=8, memory_bytes=1, moved_bytes=4 * 1100),
    }
    shapes = {"computes": small(1), "moves": small(2)}
    names = {shape.name: name for name, shape in shapes.items()}
    hardware = HardwareConfig(multiply_adds_per_second=1000, bytes_per_second=500, bytes_per_number=2)
    clock = Reckoning(hardware, batch_size=4, costs=lambda shape: known[names[shape.name]])
    found = clock.measure(shapes["computes"], list(shapes.values()))
    computes, moves = (found[shape.name] for shape in shapes.values())
    assert computes.images_per_second == pytest.approx(1 / 8)
    # 1000 activations of an image, and a quarter of the 100 weights, which are moved once for four images.
    assert moves.images_per_second == pytest.approx(1 / (1025 * 2 / 500))
    assert (computes.over_base, moves.over_base) == pytest.approx((1, 8 / 4.1))
    assert {timing.how for timing in found.values()} == {"hardware"}
    assert clock.predict(shapes["moves"]) == moves.images_per_second


def test_narrower_networks_are_reckoned_to_be_faster_on_any_hardware() -> None:
    for computing, moving in ((1e9, 1e15), (1e15, 1e9)):
        clock = Reckoning(HardwareConfig(multiply_adds_per_second=computing, bytes_per_second=moving), 64, costs)
        found = clock.measure(tiny_vit((64, 128, 160, 320)), [tiny_vit((64, 128, 160, 160))])
        assert next(iter(found.values())).over_base > 1
