"""Whether a store's records agree with answers that the same teacher gives again, within bounds that are derived.

A stored probability stands for a range: all that its encoding writes as the same bytes (``probs_range`` of the
encoding). What the teacher said when it was dumped lies in it. What it says here may be elsewhere by what rounding
does (``analysis.verifying.rounding``), which widens the range. The bound of |Δp| is the distance from the decoded
probability to the farther end of the widened range; the residual's is derived in the same way.

These bounds are for the worst class of the worst record. A small error in all records stays within them, but shows in
the mean divergence, which is compared with a multiple of what is expected of it: of the encoding, whose error of a
root is spread evenly over a range of width w, 2 w² / 12 per class (the divergence is twice the squared distance of
the roots, to the second order); of rounding, as measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from tinyvit_kd.analysis.verifying.rounding import ROUNDOFF, Rounding, odds_range
from tinyvit_kd.config.data import Encoding
from tinyvit_kd.store.codec import Parts
from tinyvit_kd.store.encodings import ENCODINGS
from tinyvit_kd.store.records import Block

Float64 = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
ENCODING_MARGIN, ROUNDING_MARGIN = 2.0, 4.0  # times the expected mean divergence of each
_TINY = 1e-12  # below which a probability counts as this much in a divergence


@dataclass(frozen=True)
class Ranges:
    """What n records may stand for: [n, K] and [n].

    Attributes:
        low, high: of the probabilities.
        low_rest, high_rest: of the residuals.
    """

    low: Float64
    high: Float64
    low_rest: Float64
    high_rest: Float64

    def take(self, rows: Sequence[int]) -> Ranges:
        """Some records."""
        return Ranges(*(getattr(self, each.name)[rows] for each in fields(self)))


@dataclass(frozen=True)
class Agreement:
    """How n records and the teacher's answers here differ, and by how much they may.

    Attributes:
        same_best: the best class is the same.
        near_tie: it is another one, and rounding may have swapped them.
        missing: the most probable class here that is not stored should be, and is not a matter of rounding.
        delta: largest |Δp| of the K classes, [n].
        delta_bound: the bound of that one, [n].
        delta_share: largest |Δp| / bound of the K classes, [n].
        rest: |Δ| of the residual, [n].
        rest_bound: its bound, [n].
        divergence: Kullback-Leibler divergence of the answer here from the record, nats, [n].
        by_encoding, by_rounding: the divergence that is expected of each, [n].
    """

    same_best: Bool
    near_tie: Bool
    missing: Bool
    delta: Float64
    delta_bound: Float64
    delta_share: Float64
    rest: Float64
    rest_bound: Float64
    divergence: Float64
    by_encoding: Float64
    by_rounding: Float64

    @classmethod
    def join(cls, parts: Sequence[Agreement]) -> Agreement:
        """Several of them, one after the other."""
        return cls(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(cls)))

    @property
    def wrong(self) -> Bool:
        """Records that differ by more than they may: [n]."""
        other_best = ~self.same_best & ~self.near_tie
        return other_best | self.missing | (self.delta_share > 1) | (self.rest > self.rest_bound)

    @property
    def divergence_bound(self) -> float:
        """Of the mean divergence."""
        return ENCODING_MARGIN * float(self.by_encoding.mean()) + ROUNDING_MARGIN * float(self.by_rounding.mean())


def ranges_of(parts: Parts, encoding: Encoding) -> Ranges:
    """What the records of an encoded block may stand for."""
    chosen = ENCODINGS[encoding]
    pair = (*chosen.probs_range(parts.probs), *chosen.residual_range(parts.residual))
    return Ranges(*(each.astype(np.float64) for each in pair))


def agreement(block: Block, ranges: Ranges, logits: Float64, rounding: Rounding) -> Agreement:
    """Compare records with the teacher's answers here.

    Args:
        block: n records, none of them a hole.
        ranges: what they may stand for.
        logits: of the teacher, [n, C].
        rounding: what it may do to these answers.
    """
    log_probs = logits - logits.max(axis=1, keepdims=True)
    log_probs -= np.log(np.exp(log_probs).sum(axis=1, keepdims=True))
    probs = np.exp(log_probs)
    here = np.take_along_axis(probs, block.indices, axis=1)
    rest = np.maximum(1 - here.sum(axis=1), 0)
    stored, stored_rest = block.probs.astype(np.float64), block.residual.astype(np.float64)
    # Error of a residual, which is 1 less a sum in float32 of K probabilities, each off by units in the last place.
    sums = (stored.shape[1] + 8) * ROUNDOFF["float32"]
    eta = rounding.logits[:, None]
    delta, bound = abs(here - stored), _bound(stored, ranges.low, ranges.high, eta)
    largest = delta.argmax(axis=1)
    best = np.take_along_axis(block.indices, stored.argmax(axis=1)[:, None], axis=1)[:, 0]
    rows = np.arange(len(best))
    behind = log_probs.max(axis=1) - log_probs[rows, best]
    same = probs.argmax(axis=1) == best
    return Agreement(
        same_best=same,
        near_tie=~same & (behind <= 2 * rounding.logits),
        missing=_missing(block, ranges, probs, rounding.logits),
        delta=delta[rows, largest],
        delta_bound=bound[rows, largest],
        delta_share=(delta / bound).max(axis=1),
        rest=abs(rest - stored_rest),
        rest_bound=_bound(stored_rest, ranges.low_rest, ranges.high_rest, rounding.logits) + sums,
        divergence=_divergence(here, rest, stored, stored_rest, sums),
        by_encoding=np.square(np.sqrt(ranges.high) - np.sqrt(ranges.low)).sum(axis=1) / 6,
        by_rounding=rounding.divergence + sums**2 / np.maximum(stored_rest, sums) / 2,
    )


def _bound(stored: Float64, low: Float64, high: Float64, eta: Float64) -> Float64:
    low, high = odds_range(low, high, eta)
    units = 8 * ROUNDOFF["float32"] * (stored + 0.1)  # in the last place of a softmax in float32
    bound: Float64 = np.maximum(abs(stored - low), abs(high - stored)) + units
    return bound


def _missing(block: Block, ranges: Ranges, probs: Float64, eta: Float64) -> Bool:
    """Whether a class that is not stored is more probable here than the least stored one can have been."""
    others = probs.copy()
    np.put_along_axis(others, block.indices, -1, axis=1)
    _, most = odds_range(ranges.low.min(axis=1), ranges.high.min(axis=1), eta)
    found: Bool = others.max(axis=1) > most + 1e-7
    return found


def _divergence(here: Float64, rest: Float64, stored: Float64, stored_rest: Float64, sums: float) -> Float64:
    """Kullback-Leibler divergence of the answers here from the records, over K classes and all others together: [n].

    Args:
        sums: below which a residual counts as this much.
    """
    ours = np.column_stack([np.maximum(here, _TINY), np.maximum(rest, sums)])
    theirs = np.column_stack([np.maximum(stored, _TINY), np.maximum(stored_rest, sums)])
    # With the differences, each term is not negative, and rounding of the sums cancels.
    found: Float64 = (ours * np.log(ours / theirs) - ours + theirs).sum(axis=1)
    return found
