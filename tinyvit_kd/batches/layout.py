"""The arrays of a batch, in memory that is shared with the loading processes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyvit_kd.data.buffers import Arrays, Field, Layout


def batch_layout(
    rows: int, size: int, topk: int | Sequence[int] | None = None, labels: bool = False, mixed: bool = False
) -> Layout:
    """Layout of a ``Batch`` of ``rows`` views of ``size`` pixels, under the names that ``Batch.of`` expects.

    Args:
        topk: K of the stored probabilities, or a list with K of each teacher; None: there are none.
        labels: whether there are labels.
        mixed: whether there are second labels, of mixed views.
    """
    fields: dict[str, Field] = {"views": ((rows, 3, size, size), np.uint8), "weights": ((rows,), np.float32)}
    if topk is not None:
        topks = [topk] if isinstance(topk, int) else topk
        fields |= {"indices": ((rows, sum(topks)), np.int64), "probs": ((rows, sum(topks)), np.float32)}
        fields["residual"] = (rows, len(topks)) if len(topks) > 1 else (rows,), np.float32
    if labels:
        fields["labels"] = (rows,), np.int64
    if mixed:
        fields |= {"mixed_labels": ((rows,), np.int64), "lam": ((rows,), np.float32)}
    return Layout(**fields)


def by_sample(arrays: Arrays, samples: int) -> Arrays:
    """Arrays [B, …] reshaped to [B/M, M, …]: in a batch, the M views of a sample are next to each other."""
    return {name: array.reshape(samples, -1, *array.shape[1:]) for name, array in arrays.items()}
