"""What resizing changes is measured on the files that a build would pack."""

from __future__ import annotations

import pytest
import torch

from benchmarks.photos import drawn
from benchmarks.resized import Targets, difference, smaller, views_per_second


def test_photos_that_are_small_enough_are_the_same_objects() -> None:
    photos = [*drawn(1, 96, 64, 2000), *drawn(1, 32, 32, 500)]
    found = smaller(photos, 48, 90)
    assert found[0] != photos[0]
    assert found[1] is photos[1]


def test_the_difference_of_targets_is_their_total_variation() -> None:
    reference = Targets(
        torch.tensor([[0, 2], [1, 2]]), torch.tensor([[0.6, 0.3], [0.2, 0.7]]), torch.tensor([0.1, 0.1])
    )
    found = Targets(torch.tensor([[0, 1], [1, 2]]), torch.tensor([[0.4, 0.5], [0.2, 0.7]]), torch.tensor([0.1, 0.1]))
    agree, variation = difference(found, reference, num_classes=3)
    assert agree == 0.5
    assert variation == pytest.approx((0.2 + 0.5 + 0.3) / 2 / 2)


def test_every_row_and_number_of_views_is_timed() -> None:
    photos = drawn(2, 64, 48, 1500)
    found = views_per_second({"a": photos, "b": photos}, rounds=1)
    assert found.keys() == {("a", 1), ("a", 4), ("b", 1), ("b", 4)}
    assert all(speed > 0 for speed in found.values())
