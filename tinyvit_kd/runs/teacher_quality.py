"""How good a teacher is on the views of its dump: how often it is right, how sure it is, and what K leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

FIRST_VIEWS = 300  # views after which a teacher is judged, and labelled views after which its agreement is
MIN_AGREEMENT = 0.3  # of best classes with labels
MIN_AGREEMENT_PER_PROBABILITY = 0.5  # a teacher is right about as often as it is sure; half of that is another mistake
OTHER_CLASSES = 0.2  # share of its mean best probability, below which a teacher's agreement is that of other classes
MIN_BEST = 0.35  # mean probability of the best class
MAX_OUTSIDE = 0.35  # mean probability outside the top K
MIXED = 0.5  # what views of two images may fall short by


@dataclass(frozen=True)
class Quality:
    """Sums over views, which add up over batches, processes and blocks.

    Attributes:
        views: views with an answer; holes are none.
        best: sum of the best classes' probabilities.
        outside: sum of the probabilities outside the K classes.
        labelled: views whose label is known as a class of the teacher.
        right: those of them whose label is the best class.
    """

    views: int = 0
    best: float = 0.0
    outside: float = 0.0
    labelled: int = 0
    right: int = 0

    @classmethod
    def of(cls, indices: npt.NDArray[np.integer], probs: Float32, residual: Float32, labels: Int64) -> Quality:
        """The sums of some views.

        Args:
            indices: classes, [n, K].
            probs: their probabilities, [n, K].
            residual: probability of all other classes, [n].
            labels: [n], -1 where they are not known.
        """
        column = probs.argmax(axis=1)[:, None]
        known = labels >= 0
        return cls(
            views=len(probs),
            best=float(np.take_along_axis(probs, column, axis=1).sum(dtype=np.float64)),
            outside=float(residual.sum(dtype=np.float64)),
            labelled=int(known.sum()),
            right=int((np.take_along_axis(indices, column, axis=1)[:, 0] == labels)[known].sum()),
        )

    def __add__(self, other: Quality) -> Quality:
        return Quality.from_values([mine + theirs for mine, theirs in zip(self.values(), other.values(), strict=True)])

    def values(self) -> tuple[float, ...]:
        """The sums in the order of the fields, for sums over processes."""
        return tuple(getattr(self, field.name) for field in fields(self))

    @classmethod
    def from_values(cls, values: list[float]) -> Quality:
        """The opposite of ``values``."""
        views, best, outside, labelled, right = values
        return cls(round(views), best, outside, round(labelled), round(right))

    @property
    def agreement(self) -> float | None:
        """Fraction of labelled views whose label is the best class; None without labels."""
        return self.right / self.labelled if self.labelled else None

    @property
    def mean_best(self) -> float:
        """Mean probability of the best class."""
        return self.best / max(self.views, 1)

    @property
    def mean_outside(self) -> float:
        """Mean probability outside the K classes."""
        return self.outside / max(self.views, 1)

    def describe(self, topk: int, whose: str = "the teacher's") -> str:
        """The figures in one clause."""
        right = (
            "" if self.agreement is None else f"is the label in {self.agreement:.1%} of {self.labelled:,} views, and "
        )
        return (
            f"{whose} best class {right}has a probability of {self.mean_best:.3f} on average; "
            f"{self.mean_outside:.3f} lies outside the top {topk}"
        )

    def results(self) -> dict[str, float]:
        """The figures for the last line of JSON: agreement in percent, if there are labels, and mean probabilities."""
        if not self.views:
            return {}
        agreement = {} if self.agreement is None else {"teacher_top1": 100 * self.agreement}
        return agreement | {"best_probability": self.mean_best, "outside_topk": self.mean_outside}


def complaint(quality: Quality, topk: int, mixes: bool, has_others: bool = True) -> str | None:
    """What is said of a teacher from which a student can learn little, with what helps; None of a better one.

    Args:
        mixes: whether views are mixed; the teacher then sees two images in one.
        has_others: whether the teacher may have classes that none of the images is of.
    """
    if quality.views < FIRST_VIEWS:
        return None
    tolerance = MIXED if mixes else 1.0
    keeps_little = quality.mean_outside > MAX_OUTSIDE / tolerance
    if _knows_little(quality, tolerance):
        helps = list(_help(quality, keeps_little, has_others))
        what = (
            f"the teacher knows little of these views: {quality.describe(topk, 'its')}. A student learns little from it"
        )
    elif keeps_little:
        helps = ["a larger store.topk, in a new store"]
        what = f"the store keeps little of the teacher's answers: {quality.describe(topk)}"
    else:
        return None
    return f"{what}. What helps: {'; '.join(helps)} (docs/TEACHERS.md)"


def _knows_little(quality: Quality, tolerance: float) -> bool:
    expected = max(MIN_AGREEMENT, MIN_AGREEMENT_PER_PROBABILITY * quality.mean_best)
    wrong = quality.labelled >= FIRST_VIEWS and quality.right / quality.labelled < tolerance * expected
    return wrong or quality.mean_best < tolerance * MIN_BEST


def _help(quality: Quality, keeps_little: bool, has_others: bool) -> Iterator[str]:
    if quality.agreement is not None and quality.agreement < OTHER_CLASSES * quality.mean_best:
        yield "the right class lists (teacher.class_list, shards.class_list), if one of them is another's"
    if keeps_little:
        yield "a larger store.topk"
    yield "milder crops (views.scale) or larger views"
    if has_others:
        yield "a teacher whose head has the classes of these images alone, as one that finetune trained"
    yield "another teacher"
    yield "in pretrain, labels beside it (loss.alpha below 1)"
