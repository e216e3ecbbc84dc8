"""Throughput foretold from what was measured, so that few shapes need timing.

The time of a forward pass is taken for a sum: of its multiply-adds, of the bytes that its layers move, of its blocks,
each of which launches as many kernels, and of what every pass takes. None of these can be negative.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit_kd.contraction.records import Costs
from tinyvit_kd.contraction.shape import Shape

Matrix = npt.NDArray[np.float64]
Measured = tuple["Features", float]  # a shape's images per second
_SURE = 3.0  # errors by which a foretold throughput must miss a limit
_LEAST_ERROR = 0.01  # medians of seven turns differ by about as much from one time to another


@dataclass(frozen=True)
class Features:
    """What the time of a forward pass depends on.

    Attributes:
        multiply_adds: of one image.
        moved_bytes: of one image.
        blocks: of all stages.
    """

    multiply_adds: float
    moved_bytes: float
    blocks: float

    @property
    def row(self) -> list[float]:
        """[4]: each of them, and 1 for what does not depend on the shape."""
        return [self.multiply_adds, self.moved_bytes, self.blocks, 1.0]


FEWEST = 4 + 2  # measured shapes that a model takes: one for each coefficient, and two by which to see its errors


@dataclass(frozen=True)
class Prediction:
    """A throughput that was foretold.

    Attributes:
        rate: images per second.
        error: standard error of that, as a fraction of it.
    """

    rate: float
    error: float

    @property
    def most(self) -> float:
        """A rate that is hardly exceeded: three errors higher."""
        return self.rate * (1 + _SURE * self.error)


def features_of(shape: Shape, costs: Costs) -> Features:
    """The features of a shape with its costs."""
    blocks = sum(shape["depths"]) if shape.family == "tiny_vit" else shape["depth"]
    return Features(costs.multiply_adds, costs.moved_bytes, blocks)


class CostModel:
    """A model of the seconds of a forward pass per image.

    It is fitted by least squares of the relative error over the coefficients that are not negative.

    Args:
        measured: features and images per second of ``FEWEST`` shapes or more.

    Attributes:
        coefficients: [4], seconds per unit of ``Features.row``.
        error: root of the mean square of the relative errors, of each shape by a model of all others; but at least
            what measurements themselves are uncertain by.
    """

    def __init__(self, measured: Sequence[Measured]) -> None:
        assert len(measured) >= FEWEST, len(measured)
        rows = np.array([features.row for features, _ in measured]) * np.array([[rate] for _, rate in measured])
        self.coefficients = fitted(rows)
        others = [np.delete(rows, left, axis=0) for left in range(len(rows))]
        residuals = [float(row @ fitted(other)) - 1 for row, other in zip(rows, others, strict=True)]
        self.error = max(_LEAST_ERROR, float(np.sqrt(np.mean(np.square(residuals)))))
        self._scale = np.linalg.norm(rows, axis=0)
        scaled = rows / self._scale
        self._inverse = np.linalg.pinv(scaled.T @ scaled)

    def __call__(self, features: Features) -> Prediction:
        """The throughput of a shape; the farther it lies from all that were measured, the larger is the error."""
        row = np.array(features.row)
        seconds = float(row @ self.coefficients)
        relative = row / seconds / self._scale
        leverage = float(relative @ self._inverse @ relative)
        return Prediction(1 / seconds, self.error * (1 + leverage) ** 0.5)


def fitted(rows: Matrix) -> Matrix:
    """The coefficients [F], none of them negative, whose products with the rows [N, F] come nearest to 1.

    The exact solution is the best least squares of those sets of features that give no negative coefficient (Lawson and
    Hanson, Solving Least Squares Problems, chapter 23); of four features there are 15 sets.
    """
    scale = np.linalg.norm(rows, axis=0)
    best, least = np.zeros(len(scale)), np.inf
    for size in range(1, len(scale) + 1):
        for chosen in map(list, itertools.combinations(range(len(scale)), size)):
            scaled = rows[:, chosen] / scale[chosen]
            values = np.linalg.lstsq(scaled, np.ones(len(rows)), rcond=None)[0]
            squares = float(np.sum((scaled @ values - 1) ** 2))
            if values.min() >= 0 and squares < least:
                best, least = np.zeros(len(scale)), squares
                best[chosen] = values / scale[chosen]
    return best


def next_to_time(
    waiting: Sequence[Features], measured: Sequence[Measured], least: float | None
) -> tuple[int | None, dict[int, Prediction]]:
    """Which shape to time next, and which ones need no timing.

    Those that are foretold to be fastest come first. Left out are those that would miss the limit even if they were
    faster by three errors. Until there are enough measured shapes for a model, the fewest multiply-adds come first, and
    none is left out.

    Args:
        waiting: shapes that are not timed yet, one or more.
        measured: features and images per second of those that are.
        least: images per second that are wanted; None: any.

    Returns:
        the position of the next one, None where none is left, and predictions for those left out, by position.
    """
    everyone = range(len(waiting))
    if len(measured) < FEWEST:
        return min(everyone, key=lambda each: waiting[each].multiply_adds), {}
    model = CostModel(measured)
    foretold = {each: model(waiting[each]) for each in everyone}
    out = {each: one for each, one in foretold.items() if least is not None and one.most < least}
    left = [each for each in everyone if each not in out]
    return max(left, key=lambda each: foretold[each].rate, default=None), out
