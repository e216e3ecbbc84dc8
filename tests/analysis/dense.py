"""The straightforward way to a store's figures: every record over all classes, every view compared with every other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyvit_kd.store.records import Block

Float64 = npt.NDArray[np.float64]


def dense(block: Block, num_classes: int) -> Float64:
    """Distributions of the records that are no holes, the residual spread over what is not stored: [n, C]."""
    rows = np.flatnonzero(block.valid)
    absent = num_classes - block.indices.shape[1]
    found = np.repeat(block.residual[rows, None].astype(np.float64) / max(absent, 1), num_classes, axis=1)
    for row, number in enumerate(rows):
        found[row, block.indices[number]] = block.probs[number]
    return found


def entropy(probs: Float64) -> Float64:
    """Of distributions, [n, C]; nats."""
    found: Float64 = -np.where(probs > 0, probs * np.log(np.where(probs > 0, probs, 1)), 0).sum(axis=1)
    return found


def divergence(p: Float64, q: Float64) -> Float64:
    """Jensen-Shannon, as the entropy of the mean less the mean of the entropies: [n]."""
    return entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2
