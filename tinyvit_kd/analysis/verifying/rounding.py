"""How far the answers of one network may be apart because they were computed in other precisions or on other machines.

A network's logits carry an error that grows in proportion to the unit roundoff u of the arithmetic, by a factor that
depends on the network and on the image: over the images of one network it varies tenfold, so that no figure for all
would be of use. It is measured instead: the network is run here in two precisions, and the difference of the logits,
centred within each image, is the error of the coarser one, as that of the finer one is smaller by far.

Let s be its root mean square over the classes of an image, at unit roundoff u. In another precision, with u', it is
about s u' / u; the store's own precision is one of the two, wherever the answers here are in another. Sums are kept
in float32 in all of them, which for bfloat16 and float16 costs nothing, and in float32 itself makes up most of the
error: there it is up to four times that (``_SUMS``). The errors of the store's machine and of this one are
independent, so both squares add up. Of thousands of classes a few are several root mean squares off, and images on
another machine by other roundings than here; ``_SPREAD`` covers both. docs/STORES.md has what was measured.

If no logit is off by more than η, the odds of any class, or set of classes, change by a factor between exp(-2 η) and
exp(2 η): p / (1 - p) is a ratio of sums of exponentials, each of which changes by a factor between exp(-η) and
exp(η). And a change of the logits by d changes the answer by a Kullback-Leibler divergence of half the variance of d
under p, to the second order.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]
ROUNDOFF = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}
TF32 = 2.0**-11  # unit roundoff of products in TF32, which float32 may mean on CUDA
_SUMS = 4.0  # times the error that float32 would have without the errors of its sums
_SPREAD = 8.0  # root mean squares that no class is off by
_FLOOR = 64 * 2.0**-24  # least η: of the softmax itself, in float32, with logits of some tens


class Rounding(NamedTuple):
    """What rounding may do to the answers about n images.

    Attributes:
        logits: η, the most by which a logit may be off, [n].
        divergence: expected Kullback-Leibler divergence, [n].
    """

    logits: Float64
    divergence: Float64


def other_precision(precision: str, stored: str) -> str:
    """The precision that answers are compared with, to measure what rounding does: the store's, if that is another."""
    if precision != stored:
        return stored
    return "bfloat16" if precision == "float32" else "float32"


def rounding(logits: Float64, others: Float64, precisions: tuple[str, str], stored: str, tf32: bool) -> Rounding:
    """What rounding may make of the difference between a store's answers and those computed here.

    Args:
        logits: of this network, [n, C].
        others: the same in another precision, [n, C].
        precisions: of these two.
        stored: the precision of the store's dump.
        tf32: whether float32 is TF32.
    """
    coarser = max(_error(each, tf32) for each in precisions)
    apart = others - logits
    apart -= apart.mean(axis=1, keepdims=True)
    size = np.sqrt(np.square(apart).mean(axis=1))
    # An image whose error happens to be small here may have the usual one elsewhere.
    size = np.maximum(size, np.median(size) / 2)
    scale = float(np.hypot(_error(precisions[0], tf32), _error(stored, tf32))) / coarser
    probs = np.exp(logits - logits.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    variance = (probs * np.square(apart)).sum(axis=1) - np.square((probs * apart).sum(axis=1))
    return Rounding(_SPREAD * scale * size + _FLOOR, np.maximum(variance, 0) * scale**2 / 2)


def odds_range(low: Float64, high: Float64, logits: Float64) -> tuple[Float64, Float64]:
    """A range of probabilities, widened by what an error η of the logits may do.

    Args:
        low, high: [n, …].
        logits: η of each image, of a shape that goes with these.
    """
    factor = np.exp(2 * logits)
    return low / (low + (1 - low) * factor), high * factor / (high * factor + (1 - high))


def _error(precision: str, tf32: bool) -> float:
    if precision == "float32":
        return TF32 if tf32 else _SUMS * ROUNDOFF[precision]
    return ROUNDOFF[precision]
