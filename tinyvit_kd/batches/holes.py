"""Holes in batches: a hole keeps its place, its views are zeros, and it weighs zero.

A hole is a sample whose image cannot be decoded. It stays in the order and in the batch, and losses divide by the whole
batch, so nothing depends on which samples are holes: not the places of the others, and not their gradients.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Uint8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


def make_hole(views: Uint8, rows: int | slice, weights: Float32 | None = None) -> None:
    """Make some rows of a batch holes.

    Args:
        views: uint8 [rows, …, 3, S, S].
        rows: a row, or several.
        weights: float32 [rows, …]; None for a dump's batches, whose records have a status instead.
    """
    views[rows] = 0
    if weights is not None:
        weights[rows] = 0


def weigh_records(weights: Float32, valid: npt.NDArray[np.bool_]) -> None:
    """Let valid records of a store weigh one, and holes zero: [B] each."""
    weights[:] = valid


def place_views(replayed: Uint8, columns: list[int], views: Uint8) -> None:
    """Put a sample's valid views in their places, and zeros in the places of holes.

    Args:
        replayed: uint8 [len(columns), 3, S, S]; if there are no holes, it may be ``views`` itself.
        columns: the places of the valid views.
        views: uint8 [M, 3, S, S], filled.
    """
    if replayed is views:
        return
    views[:] = 0
    views[columns] = replayed


def leave_out_unlabelled(weights: Float32, *labels: Int64) -> None:
    """Let views without a label weigh zero, too; for mixed views, both labels must be known.

    Args:
        weights: float32 [B, …].
        labels: int64 of the same shape, -1 where unknown.
    """
    for each in labels:
        weights[each < 0] = 0
