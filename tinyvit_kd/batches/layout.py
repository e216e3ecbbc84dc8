"""The arrays of a batch in the memory that loading processes share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyvit_kd.data.buffers import Arrays, Field, Layout


def batch_layout(
    rows: int, size: int, topk: int | Sequence[int] | None = None, labels: bool = False, mixed: bool = False
) -> Layout:
    """The arrays of a ``Batch`` of ``rows`` views of ``size`` pixels, under the names that ``Batch.of`` takes.

    Args:
        topk: K where there are stored probabilities; of several teachers each one's.
    """
    fields: dict[str, Field] = {"views": ((rows, 3, size, size), np.uint8), "weights": ((rows,), np.float32)}
    if topk is not None:
        each = [topk] if isinstance(topk, int) else topk
        fields |= {"indices": ((rows, sum(each)), np.int64), "probs": ((rows, sum(each)), np.float32)}
        fields["residual"] = (rows, len(each)) if len(each) > 1 else (rows,), np.float32
    if labels:
        fields["labels"] = (rows,), np.int64
    if mixed:
        fields |= {"mixed_labels": ((rows,), np.int64), "lam": ((rows,), np.float32)}
    return Layout(**fields)


def by_sample(arrays: Arrays, samples: int) -> Arrays:
    """Arrays [B, …] as [B/M, M, …]: a sample's views are next to each other."""
    return {name: array.reshape(samples, -1, *array.shape[1:]) for name, array in arrays.items()}
