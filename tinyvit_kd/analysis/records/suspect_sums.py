"""How far a teacher contradicts the labels of a shard's samples, view after view."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyvit_kd.analysis.records.record_figures import Float32, Float64, Int32, Int64
from tinyvit_kd.analysis.records.store_blocks import best_classes
from tinyvit_kd.runs.known_labels import UNKNOWN
from tinyvit_kd.store.records import Block


class LabelSums:
    """Sums over the views of n samples, whose best classes besides the label are kept, too."""

    def __init__(self, labels: Int64, views: int) -> None:
        count = len(labels)
        self.labels = labels
        self.views = np.zeros(count, np.int64)
        self.contradicted = np.zeros(count, np.int64)
        self.not_stored = np.zeros(count, np.int64)
        self.of_label = np.zeros(count)
        self.others = np.full((views, count), UNKNOWN, np.int32)
        self.of_others = np.zeros((views, count), np.float32)

    def add(self, number: int, block: Block, partner_labels: Int64, counts: npt.NDArray[np.bool_]) -> None:
        """Add one view of each sample.

        Args:
            number: how many views were added before.
            partner_labels: of the images that views are mixed with, [n], -1 where there is none.
            counts: [n], whether the view counts.
        """
        rows = np.flatnonzero(counts & block.valid & (self.labels >= 0))
        view = block.take(rows)
        labels = self.labels[rows]
        stored, of_label = bounded_probability(view, labels)
        classes, probs = best_other(view, labels, partner_labels[rows])
        best = best_classes(view)
        self.views[rows] += 1
        self.contradicted[rows] += (best != labels) & (best != partner_labels[rows])
        self.not_stored[rows] += ~stored
        self.of_label[rows] += of_label
        self.others[number, rows], self.of_others[number, rows] = classes, probs


def bounded_probability(view: Block, labels: Int64) -> tuple[npt.NDArray[np.bool_], Float64]:
    """Whether each record stores its label, bool [n], and the label's probability or, if not, the most it can be, [n].

    A class that is not among the top K has at most the smallest stored probability, and at most the residual.
    """
    there = view.indices == labels[:, None]
    stored = there.any(axis=1)
    most = np.minimum(view.probs.min(axis=1, initial=1), np.maximum(view.residual, 0))
    found: Float64 = np.where(stored, (view.probs * there).sum(axis=1), most).astype(np.float64)
    return stored, found


def best_other(view: Block, labels: Int64, partner_labels: Int64) -> tuple[Int32, Float32]:
    """The best class of each record besides its label and its partner's, int32 [n], and its probability [n].

    The class is -1, and its probability 0, where a record has no other class.
    """
    own = (view.indices == labels[:, None]) | (view.indices == partner_labels[:, None])
    others = np.where(own, np.float32(-1), view.probs)
    column = others.argmax(axis=1)[:, None]
    probs = np.take_along_axis(others, column, axis=1)[:, 0]
    classes = np.take_along_axis(view.indices, column, axis=1)[:, 0]
    return np.where(probs < 0, np.int32(UNKNOWN), classes), np.maximum(probs, np.float32(0))


def leading_class(classes: Int32, probs: Float32) -> tuple[int, float]:
    """The class that is there most often, and the sum of its probabilities; of several, that with the larger sum.

    Args:
        classes: of one sample by view, [V], -1 where there is none.
        probs: their probabilities, [V].
    """
    there = classes >= 0
    if not there.any():
        return UNKNOWN, 0.0
    numbers, places, times = np.unique(classes[there], return_inverse=True, return_counts=True)
    totals = np.bincount(places, weights=probs[there].astype(np.float64))
    first = np.lexsort((-totals, -times))[0]
    return int(numbers[first]), float(totals[first])
