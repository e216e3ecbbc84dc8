"""How often teachers name the same best class, whose classes may be numbered in other ways."""

from __future__ import annotations

import numpy as np

from tinyvit_kd.analysis.auditions.answers import Answers, Mean
from tinyvit_kd.data.labels.class_list import ClassList, class_map

LEAST_COMMON = 0.5  # of the classes of the shorter list: teachers that share fewer are not compared


def agreement(
    one: Answers,
    other: Answers,
    one_classes: ClassList | None,
    other_classes: ClassList | None,
    sizes: tuple[int, int],
) -> Mean | None:
    """Percent of the views in which two teachers have the same best class; None if their classes cannot be compared.

    Classes are compared by id; by number where a list is not known, if there are as many. A class that the other
    teacher does not have is never the same.

    Args:
        one, other: answers to the same views.
        sizes: C of both.
    """
    named = one.best
    if one_classes is None or other_classes is None:
        if sizes[0] != sizes[1]:
            return None
    elif one_classes.ids != other_classes.ids:
        positions = class_map(other_classes, one_classes)
        if (positions >= 0).sum() < LEAST_COMMON * min(sizes):
            return None
        named = positions[one.best]
    return Mean.of(100.0 * (named == other.best)[one.valid & other.valid].astype(np.float64))
