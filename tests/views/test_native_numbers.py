"""The extension checks all numbers that it is given, whoever calls it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.views.conftest import NEEDS_NATIVE
from tinyvit_kd.views import native

pytestmark = NEEDS_NATIVE

INFINITY, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    "numbers",
    [
        [],
        [0.0] * 10,
        [0, 0, 9, 9, 8, 8, 0, 0, 0, 0, 0],
        [0, 0, 8, 8, 8, 8, 0, 0, 0, 5, 0],
        [0, 0, 8, 8, 7, 8, 0, 0, 0, 0, 0],
        [0, 0, 8, 8, 9, 9, 2, 0, 0, 0, 0],
        [0, 0, 8, 8, 9, 9, 0, 2, 0, 0, 0],
        [0, 0, 8, 8, 9, 9, -1, 0, 0, 0, 0],
        [NAN] * 11,
    ],
    ids=str,
)
def test_parameters_that_do_not_fit_are_refused(numbers: list[float]) -> None:
    assert not renders(numbers)


@pytest.mark.parametrize(
    "operation",
    [
        *([kind, 0, 0, 0, 0, 0, 0] for kind in (-1, 13, 3.5, NAN, INFINITY, 1e300)),
        *([3, 1, number, 0, 0, 1, 0] for number in (NAN, -INFINITY, 1e300, 2**31)),
        *([3, 0.5, 0.5, 0, number, 1, 0] for number in (NAN, INFINITY, -1e300)),
        *([4, quarters, 0, 0, 0, 0, 0] for quarters in (-1, 4, NAN)),
        *([kind, NAN, 0, 0, 0, 0, 0] for kind in (5, 6, 8, 11)),
        [7, -1, 0, 0, 0, 0, 0],
        *([12, radius, 0, 0, 0, 0, 0] for radius in (-1, 2**30, NAN)),
    ],
    ids=str,
)
def test_operations_with_numbers_that_have_no_meaning_are_refused(operation: list[float]) -> None:
    head = [0.0, 0, 8, 8, 8, 8, 0, 0, 0, 1, 0]
    assert renders([*head, 7, 0, 0, 0, 0, 0, 0])
    assert not renders([*head, *operation])


def renders(numbers: list[float]) -> bool:
    out = np.empty((1, 3, 8, 8), np.uint8)
    pixels = bytes(8 * 8 * 3)
    noise = bytes(3)
    params = np.array(numbers, np.float64)
    return bool(native.module().render(pixels, (8, 8), params, 8, True, (0, 0, 0), 0, noise, out, ""))
