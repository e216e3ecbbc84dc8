"""Which candidates are the best: scores with their errors, the Pareto front, and ties.

Candidates are ranked by the cross-entropy to the teacher's distribution, whatever the loss of their training: it is
that loss itself only where they learn from that distribution alone, at temperature 1. It tells them apart by fewer
samples than a percentage of equal answers does.

All are scored on the same samples. So whether two are tied is told by their differences, sample by sample, and not by
the errors of their scores, which are those of each alone.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tinyvit_kd.contraction.records import Costs, Result, Score, Timing
from tinyvit_kd.contraction.sample_losses import Difference, Losses, difference_of

_TIED_WITHIN = 2.0  # standard errors of a difference


@dataclass(frozen=True)
class Standing:
    """How a candidate stands among others.

    Attributes:
        loss: mean over its seeds of the cross-entropy to the teacher, nats.
        error: standard error of that.
        takes: what it takes of each limited quantity, the less the better.
        of_seeds: the part of the error that is due to seeds.
    """

    name: str
    loss: float
    error: float
    takes: tuple[float, ...]
    of_seeds: float = 0.0

    def beats(self, other: Standing) -> bool:
        """Whether it is better than another one in something, and worse in nothing."""
        pairs = list(zip((self.loss, *self.takes), (other.loss, *other.takes), strict=True))
        return all(own <= others for own, others in pairs) and any(own < others for own, others in pairs)

    def ties_with(self, other: Standing, by_sample: Difference | None) -> bool:
        """Whether the scores differ by no more than twice the standard error of their difference.

        Args:
            by_sample: the difference of the two over the samples, to whose error that of both candidates' seeds is
                added. None: it is not known. Then the errors are taken for independent, so that more ties are told than
                there are.
        """
        if by_sample is None:
            return abs(self.loss - other.loss) <= _TIED_WITHIN * math.hypot(self.error, other.error)
        return abs(by_sample.mean) <= _TIED_WITHIN * math.hypot(by_sample.error, self.of_seeds, other.of_seeds)


def last_scores(result: Result) -> list[Score]:
    """The scores at a candidate's furthest point of training, one for each seed."""
    furthest = max((score.steps for score in result.scores), default=0)
    return [score for score in result.scores if score.steps == furthest]


def standings(results: Sequence[Result], limited: Sequence[str]) -> list[Standing]:
    """Standings of candidates that were trained equally far, the best first.

    The error of a mean has two parts: that of the held-out samples, which are the same for all seeds, and that of the
    seeds, whose variance is pooled over all candidates that were trained with several.

    Args:
        results: with at least one score each.
        limited: names of the limited quantities (see ``LimitsConfig``).
    """
    variance = _variance_of_seeds([_losses(result) for result in results])
    found = []
    for result in results:
        scores = last_scores(result)
        of_samples = statistics.fmean(score.errors["cross_entropy"] for score in scores)
        of_seeds = math.sqrt(variance / len(scores))
        found.append(
            Standing(
                result.candidate.shape.name,
                statistics.fmean(_losses(result)),
                math.hypot(of_samples, of_seeds),
                taken(result.costs, result.timing, limited),
                of_seeds,
            )
        )
    return sorted(found, key=lambda standing: (standing.loss, standing.takes, standing.name))


def taken(costs: Costs, timing: Timing | None, limited: Sequence[str]) -> tuple[float, ...]:
    """What a network takes of each limited quantity; of throughput, the seconds per image."""
    rate = math.inf if timing is None else 1 / timing.images_per_second
    takes = costs.limited | {"images_per_second": rate}
    return tuple(takes[name] for name in limited)


def pareto_front(found: Sequence[Standing]) -> list[Standing]:
    """Those that no other one beats, in the given order."""
    return [one for one in found if not any(other.beats(one) for other in found)]


def ties(found: Sequence[Standing], losses: Mapping[str, Losses | None]) -> list[tuple[str, str]]:
    """Names of the pairs whose scores are too close to be told apart.

    Args:
        losses: of each candidate by name, the mean over its seeds sample by sample; None where they are not known.
    """
    return [
        (one.name, other.name)
        for one, other in itertools.combinations(found, 2)
        if one.ties_with(other, difference_of(losses.get(one.name), losses.get(other.name)))
    ]


def _losses(result: Result) -> list[float]:
    return [score.cross_entropy for score in last_scores(result)]


def _variance_of_seeds(losses: Sequence[Sequence[float]]) -> float:
    """The variance of a training's score over its seeds, pooled; 0 where there is but one seed."""
    repeated = [each for each in losses if len(each) > 1]
    freedom = sum(len(each) - 1 for each in repeated)
    squares = sum((len(each) - 1) * statistics.variance(each) for each in repeated)
    return squares / freedom if freedom else 0.0
