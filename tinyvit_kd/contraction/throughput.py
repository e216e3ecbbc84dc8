"""The throughput of shapes: measured in turns with a base, foretold where that is enough, or reckoned from figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from tinyvit_kd.config.contraction import HardwareConfig
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.cost_model import FEWEST, CostModel, Features, Prediction, features_of, next_to_time
from tinyvit_kd.contraction.costs import costs_of
from tinyvit_kd.contraction.forward_pass import ForwardPasses
from tinyvit_kd.contraction.records import Costs, Timing
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.contraction.timings_folder import Known, TimingsFolder
from tinyvit_kd.contraction.turns import Pass, rates_in_turns, ratios_in_turns, spread_of
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying

_FLOAT32 = 4  # bytes per number of ``Costs``


class Clock(Protocol):
    """Tells the throughput of shapes."""

    def measure(self, base: Shape, shapes: Sequence[Shape], least: float | None = None) -> dict[str, Timing]:
        """Timings by the shapes' names, in the order of the shapes.

        Args:
            base: in turns with which shapes are timed; it may be among them.
            least: images per second that are wanted: shapes that surely have fewer need no timing; None: time all.
        """

    def predict(self, shape: Shape) -> float | None:
        """The most images per second that a shape can be expected to have; None: too little is known."""


def open_clock(config: ContractConfig, job: Job, num_classes: int, image_size: int, folder: Path) -> Clock:
    """The clock that a recipe asks for: one that measures here, or one that reckons by given figures.

    Args:
        job: whose device computes; its other processes take no part.
        num_classes: C of the networks' heads.
        image_size: side of the views, pixels.
        folder: in which timings are kept, by machine and setting.
    """
    timed, costs = config.throughput, partial(costs_of, num_classes=num_classes, image_size=image_size)
    if timed.hardware is not None:
        return Reckoning(timed.hardware, timed.batch_size, costs)
    passes = _passes(config, job, num_classes, image_size)
    known = TimingsFolder(folder, passes.setting())
    return Stopwatch(costs, passes, known, timed.batch_size, timed.turns, passes.told_machine())


def timing_setting(config: ContractConfig, job: Job, num_classes: int, image_size: int) -> dict[str, Any] | None:
    """What must be the same for timings of two processes to be comparable; None where none is a limit, or measured.

    Args:
        job, num_classes, image_size: as ``open_clock``.
    """
    if config.limits.images_per_second is None or config.throughput.hardware is not None:
        return None
    return _passes(config, job, num_classes, image_size).setting()


def _passes(config: ContractConfig, job: Job, num_classes: int, image_size: int) -> ForwardPasses:
    return ForwardPasses(config.throughput, config.runtime, num_classes, image_size, Job(0, 1, job.device))


class Reckoning:
    """Throughput by the figures of a machine: a pass takes the longer of computing and moving (the roofline model).

    Args:
        batch_size: images of a pass, for which weights are moved once.
        costs: of a shape.
    """

    def __init__(self, hardware: HardwareConfig, batch_size: int, costs: Callable[[Shape], Costs]) -> None:
        self._hardware, self._batch_size, self._costs = hardware, batch_size, costs

    def measure(self, base: Shape, shapes: Sequence[Shape], least: float | None = None) -> dict[str, Timing]:
        """Timings by the shapes' names; nothing is timed."""
        del least
        own = self._rate(base)
        rates = {shape.name: self._rate(shape) for shape in shapes}
        return {name: Timing(rate, rate / own, 0.0, "hardware", self._told()) for name, rate in rates.items()}

    def predict(self, shape: Shape) -> float | None:
        """The images per second of a shape."""
        return self._rate(shape)

    def _rate(self, shape: Shape) -> float:
        costs, hardware = self._costs(shape), self._hardware
        numbers = costs.moved_bytes / _FLOAT32 - costs.parameters * (1 - 1 / self._batch_size)
        computing = costs.multiply_adds / hardware.multiply_adds_per_second
        moving = numbers * hardware.bytes_per_number / hardware.bytes_per_second
        return 1 / max(computing, moving)

    def _told(self) -> str:
        hardware = self._hardware
        return (
            f"{hardware.multiply_adds_per_second:.3g} multiply-adds/s, {hardware.bytes_per_second:.3g} bytes/s, "
            f"{hardware.bytes_per_number:g} bytes per number"
        )


class Stopwatch:
    """Throughput as it is measured here, once for each shape.

    A shape's images per second are those of its base times the median ratio of the turns, and the base's are those of
    the time when it was a candidate itself. So all figures of a search hang together, whatever else the machine did
    meanwhile.

    Args:
        costs: of a shape.
        passes: makes the forward pass of a shape.
        folder: of what has been measured by any process.
        batch_size: images of a pass.
        turns: fewest timings of base and shape.
        machine: in words.
    """

    def __init__(
        self,
        costs: Callable[[Shape], Costs],
        passes: Callable[[Shape], Pass],
        folder: TimingsFolder,
        batch_size: int,
        turns: int,
        machine: str,
    ) -> None:
        self._costs, self._passes, self._folder = costs, passes, folder
        self._batch_size, self._turns, self._machine = batch_size, turns, machine
        self._known: dict[str, Known] = {}
        self._model: CostModel | None = None

    def measure(self, base: Shape, shapes: Sequence[Shape], least: float | None = None) -> dict[str, Timing]:
        """Timings by the shapes' names: as they are known, measured, or predicted.

        Args:
            base: in turns with which shapes are timed; it may be among them.
            least: images per second that are wanted: shapes that surely have fewer are predicted; None: time all.

        Raises:
            ConfigError: a network cannot be built, or cannot be compiled though that is asked for.
            Preempted: a signal asked to stop; what has been measured is kept.
        """
        self._known, self._model = self._folder.read_all(), None
        base_pass = cache(lambda: self._passes(base))
        if base.name not in self._known:
            rates = rates_in_turns(base_pass(), self._batch_size, self._turns)
            self._note(base, base, statistics.median(rates), spread_of(rates))
        foretold: dict[str, Timing] = {}
        waiting = {shape.name: shape for shape in shapes if shape.name not in self._known}
        with saying("timing networks", len(waiting), "network") as beat:
            while waiting:
                chosen, out = self._choose(base, list(waiting.values()), least)
                foretold |= out
                for name in out:
                    del waiting[name]
                if chosen is not None:
                    self._time(base, base_pass(), chosen)
                    del waiting[chosen.name]
                beat.advance()
        return {shape.name: foretold.get(shape.name) or self._timing(base, shape) for shape in shapes}

    def predict(self, shape: Shape) -> float | None:
        """Images per second of a shape; if it is not timed yet, those foretold and three errors more.

        Returns:
            None where too few shapes were timed for a model.
        """
        self._known = self._known or self._folder.read_all()
        if shape.name in self._known:
            return self._known[shape.name].timing.images_per_second
        if len(self._known) < FEWEST:
            return None
        self._model = self._model or CostModel([(each.features, each.rate) for each in self._known.values()])
        return self._model(self._features(shape)).most

    def _choose(
        self, base: Shape, waiting: Sequence[Shape], least: float | None
    ) -> tuple[Shape | None, dict[str, Timing]]:
        """The shape to time next, and timings of those that need none, by name."""
        measured = [(each.features, each.rate) for each in self._known.values()]
        chosen, out = next_to_time([self._features(shape) for shape in waiting], measured, least)
        own = self._known[base.name].rate
        return (
            None if chosen is None else waiting[chosen],
            {waiting[each].name: self._predicted(one, own) for each, one in out.items()},
        )

    def _predicted(self, prediction: Prediction, base_rate: float) -> Timing:
        rate = prediction.rate
        return Timing(rate, rate / base_rate, prediction.error, "predicted", self._machine)

    def _time(self, base: Shape, base_pass: Pass, shape: Shape) -> None:
        ratios = ratios_in_turns(base_pass, self._passes(shape), self._turns)
        rate = self._known[base.name].rate * statistics.median(ratios)
        self._note(base, shape, rate, spread_of(ratios))

    def _note(self, base: Shape, shape: Shape, rate: float, spread: float) -> None:
        over_base = 1.0 if shape.name == base.name else rate / self._known[base.name].rate
        timing = Timing(rate, over_base, spread, "measured", self._machine)
        known = Known(base.name, timing, self._features(shape))
        self._known[shape.name] = self._folder.write(shape.name, known)
        self._model = None

    def _timing(self, base: Shape, shape: Shape) -> Timing:
        """What is known of a shape, over a base which need not be the one that it was timed with."""
        timing = self._known[shape.name].timing
        return replace(timing, over_base=timing.images_per_second / self._known[base.name].rate)

    def _features(self, shape: Shape) -> Features:
        return features_of(shape, self._costs(shape))
