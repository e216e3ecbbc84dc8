"""Which classes a teacher knows well, which it does not, and which it never names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinyvit_kd.analysis.records.store_sums import ClassSums, Int64

Tree = dict[str, Any]
LISTED = 10  # classes at each end, and of each kind
RARE = 0.1  # of the mean number of records per class, below which a class is rarely the best one
_Z = 1.96  # of a normal distribution's 95 % interval


def class_figures(sums: ClassSums, names: Sequence[str], ids: Sequence[str] | None) -> Tree:
    """Agreement by class, the best and the worst ones, and classes that are never or rarely the best one.

    Best and worst are ordered by the near end of the 95 % interval (Wilson's) of their agreement, so that a class with
    few views is at neither end by chance.

    Args:
        names: of the classes, for people.
        ids: of the classes; None where they are not known.
    """
    labelled = np.flatnonzero(sums.labelled)
    lower, upper = (wilson(sums.right[labelled], sums.labelled[labelled], side) for side in (-1, 1))

    def told(classes: Int64) -> list[Tree]:
        return [_told(sums, each, names, ids) for each in classes.tolist()[:LISTED]]

    never, rare = never_best(sums), rarely_best(sums)
    missed = labelled[sums.best[labelled] == 0]
    return {
        "labelled": len(labelled),
        "best": told(labelled[np.argsort(-lower, kind="stable")]),
        "worst": told(labelled[np.argsort(upper, kind="stable")]),
        "never_best": {"classes": len(never), "first": told(never)},
        "never_best_though_labelled": {"classes": len(missed), "first": told(missed)},
        "rarely_best": {"classes": len(rare), "below": _rare_below(sums), "first": told(rare)},
        "never_stored": {
            "classes": int((sums.stored == 0).sum()),
            "first": told(np.flatnonzero(sums.stored == 0)),
        },
        "counts": {
            "labelled": sums.labelled.tolist(),
            "right": sums.right.tolist(),
            "right_top5": sums.right_top5.tolist(),
            "best": sums.best.tolist(),
            "stored": sums.stored.tolist(),
        },
    }


def never_best(sums: ClassSums) -> Int64:
    """Classes that are the best one of no record: int64 [n]."""
    return np.flatnonzero(sums.best == 0)


def rarely_best(sums: ClassSums) -> Int64:
    """Classes that are the best one of some records, but of few, the rarest first: int64 [n]."""
    rare = np.flatnonzero((sums.best > 0) & (sums.best < _rare_below(sums)))
    return rare[np.argsort(sums.best[rare], kind="stable")]


def _rare_below(sums: ClassSums) -> float:
    return RARE * float(sums.best.sum()) / len(sums.best)


def wilson(right: Int64, count: Int64, side: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The lower (-1) or upper (1) end of the 95 % interval of a fraction (Wilson 1927): float64 [n].

    Args:
        right, count: int64 [n], the fraction's parts; no count is 0.
    """
    fraction = right / count
    middle = fraction + _Z**2 / (2 * count)
    width = _Z * np.sqrt(fraction * (1 - fraction) / count + _Z**2 / (4 * count**2))
    found: np.ndarray[Any, np.dtype[np.float64]] = (middle + side * width) / (1 + _Z**2 / count)
    return found


def _told(sums: ClassSums, number: int, names: Sequence[str], ids: Sequence[str] | None) -> Tree:
    labelled = int(sums.labelled[number])
    return {
        "class": number,
        "id": None if ids is None else ids[number],
        "name": names[number],
        "labelled": labelled,
        "top1": int(sums.right[number]) / labelled if labelled else None,
        "top5": int(sums.right_top5[number]) / labelled if labelled else None,
        "best": int(sums.best[number]),
        "stored": int(sums.stored[number]),
    }
