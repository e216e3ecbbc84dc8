"""What is known of a search's candidates, as numbers with their errors: costs, throughput and scores."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tinyvit_kd.contraction.front import last_scores, standings, taken
from tinyvit_kd.contraction.means import Mean, mean_of
from tinyvit_kd.contraction.records import Costs, Result, Timing
from tinyvit_kd.contraction.rounds import Outcome
from tinyvit_kd.reports.figures import Figure

SCORES = {
    "cross_entropy": Figure("Cross-entropy to the teacher", "nats", more_is_better=False),
    "agreement": Figure("Agreement with the teacher", "%", more_is_better=True),
    "top1": Figure("Top-1 accuracy", "%", more_is_better=True),
}
COSTS = {
    "parameters": Figure("Parameters", more_is_better=False),
    "multiply_adds": Figure("Multiply-adds per image", more_is_better=False),
    "images_per_second": Figure("Images per second", more_is_better=True),
    "memory_mib": Figure("Memory", "MiB", more_is_better=False),
}


def scores_shown(outcome: Outcome) -> list[str]:
    """Names of the scores that this search has."""
    scores = [score for each in _all(outcome) for score in each.scores]
    return [name for name in SCORES if any(getattr(score, name) is not None for score in scores)]


def costs_shown(outcome: Outcome) -> list[str]:
    """Names of what this search says of its candidates' costs; of throughput and memory, only where it does."""
    shown = ["parameters", "multiply_adds"]
    shown += ["images_per_second"] if any(each.timing is not None for each in _all(outcome)) else []
    return shown + (["memory_mib"] if "memory_mib" in outcome.targets else [])


def cost(costs: Costs, timing: Timing | None, name: str) -> float | None:
    """What a network takes of something, in the unit of its limit; None where that is not known."""
    if name == "images_per_second":
        return None if timing is None else timing.images_per_second
    return taken(costs, timing, [name])[0]


def means(results: Sequence[Result], name: str) -> dict[str, Mean]:
    """A score of some candidates, by name of their shape; without those that have none, or one that is not finite.

    The error of the cross-entropy is that by which they are ranked, over samples and seeds. That of others is over the
    samples.
    """
    scored = [result for result in results if _is_finite(result)]
    if name == "cross_entropy":
        return {each.name: Mean(each.loss, each.error) for each in standings(scored, ())}
    found = {result.candidate.shape.name: mean_of(result, name) for result in scored}
    return {shape: mean for shape, mean in found.items() if mean is not None}


def _is_finite(result: Result) -> bool:
    losses = [score.cross_entropy for score in last_scores(result)]
    return bool(losses) and all(map(math.isfinite, losses))


def _all(outcome: Outcome) -> list[Result]:
    return [outcome.base, *(each for record in outcome.rounds for each in record.results)]
