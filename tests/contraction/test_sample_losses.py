"""The losses of single samples survive their file, and a file that is damaged counts as none."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tinyvit_kd.contraction.sample_losses import Losses, difference_of, mean_losses, read_losses, write_losses


def losses_of(*values: float) -> Losses:
    return np.array(values, dtype=np.float32)


LOSSES = losses_of(2.5, math.nan, 0.125)


def saved(array: npt.NDArray[np.generic]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_losses_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "results" / "a.losses.npy"
    write_losses(path, LOSSES)
    again = read_losses(path)
    assert again is not None
    assert again.dtype == np.float32
    assert np.array_equal(again, LOSSES, equal_nan=True)
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        saved(LOSSES)[:-1],
        bytes(len(saved(LOSSES))),
        saved(LOSSES).replace(b"(3,), }" + b" " * 14, b"(3" + b"0" * 14 + b",), }"),
        saved(LOSSES.astype(np.float64)),
        saved(LOSSES[None]),
        saved(np.array([None])),
    ],
    ids=["empty", "cut", "zeros", "huge", "other type", "other shape", "objects"],
)
def test_a_damaged_file_counts_as_none_and_is_replaced(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.losses.npy"
    path.write_bytes(content)
    assert read_losses(path) is None
    write_losses(path, LOSSES)
    assert np.array_equal(read_losses(path), LOSSES, equal_nan=True)  # type: ignore[arg-type]


def test_there_may_be_no_file(tmp_path: Path) -> None:
    assert read_losses(tmp_path / "a.losses.npy") is None


def test_a_difference_is_the_mean_over_the_samples_of_both_with_its_error() -> None:
    found = difference_of(losses_of(1, 2, math.nan, 5, 9), losses_of(1, 1, 7, 3, math.nan))
    assert found is not None
    assert found.mean == pytest.approx(1)
    assert found.error == pytest.approx(1 / math.sqrt(3))


@pytest.mark.parametrize("other", [None, losses_of(1, 2), losses_of(1, math.nan, math.nan)])
def test_without_losses_of_the_same_samples_there_is_no_difference(other: Losses | None) -> None:
    assert difference_of(losses_of(1, 2, 3), other) is None
    assert difference_of(other, losses_of(1, 2, 3)) is None


def test_the_mean_over_seeds_is_that_of_each_sample_and_needs_all_seeds() -> None:
    assert np.array_equal(mean_losses([losses_of(1, 2), losses_of(3, 8)]), losses_of(2, 5))  # type: ignore[arg-type]
    assert np.isnan(mean_losses([losses_of(1, 2), losses_of(3, math.nan)])).tolist() == [False, True]  # type: ignore[arg-type]
    assert mean_losses([losses_of(1, 2), None]) is None
    assert mean_losses([losses_of(1, 2), losses_of(1)]) is None
    assert mean_losses([]) is None
