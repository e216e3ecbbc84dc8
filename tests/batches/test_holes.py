"""A hole keeps its place, its views are zeros, and it weighs zero; everything else stays as it is."""

from __future__ import annotations

import numpy as np
import pytest

from tinyvit_kd.batches.holes import leave_out_unlabelled, make_hole, place_views, weigh_records


@pytest.mark.parametrize("rows", [2, slice(1, 3)], ids=["one row", "several rows"])
def test_a_hole_is_zeros_of_no_weight_in_its_own_rows(rows: int | slice) -> None:
    views = np.full((4, 2, 3, 5, 5), 9, np.uint8)
    weights = np.ones((4, 2), np.float32)
    make_hole(views, rows, weights)
    is_hole = np.zeros(4, bool)
    is_hole[rows] = True
    assert not views[is_hole].any()
    assert not weights[is_hole].any()
    assert (views[~is_hole] == 9).all()
    assert (weights[~is_hole] == 1).all()


def test_views_without_weights_can_be_holes() -> None:
    views = np.ones((2, 3, 5, 5), np.uint8)
    make_hole(views, 1)
    assert views.any(axis=(1, 2, 3)).tolist() == [True, False]


def test_valid_records_weigh_one_and_others_zero() -> None:
    weights = np.full(3, 0.5, np.float32)
    weigh_records(weights, np.array([True, False, True]))
    assert weights.tolist() == [1, 0, 1]


def test_views_beside_holes_keep_their_places() -> None:
    views = np.full((3, 3, 5, 5), 9, np.uint8)
    place_views(np.stack([np.full((3, 5, 5), value, np.uint8) for value in (1, 2)]), [0, 2], views)
    assert views[:, 0, 0, 0].tolist() == [1, 0, 2]
    place_views(views, [0, 1, 2], views)
    assert views[:, 0, 0, 0].tolist() == [1, 0, 2]


def test_a_mixed_view_weighs_zero_unless_both_labels_are_known() -> None:
    weights = np.array([1, 1, 1, 0], np.float32)
    leave_out_unlabelled(weights, np.array([0, -1, 3, 3]), np.array([1, 1, -1, 3]))
    assert weights.tolist() == [1, 0, 0, 0]
