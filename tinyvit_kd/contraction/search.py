"""The rounds of a search, pure over what it is given: a plan of each round, scores and timings.

All processes that share a search run this, and come to the same rounds, since they are given the same results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.front import Standing, last_scores, pareto_front, standings, ties
from tinyvit_kd.contraction.halving import Halving, part_ends
from tinyvit_kd.contraction.records import Candidate, Result, Score, Timing
from tinyvit_kd.contraction.result_names import task_name
from tinyvit_kd.contraction.rounds import RoundRecord
from tinyvit_kd.contraction.sample_losses import Losses
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.errors import ConfigError


@dataclass(frozen=True)
class Rules:
    """What decides a search.

    Attributes:
        rounds: how many.
        bases: candidates of a round that are contracted in the next.
        winners: of the last round.
        finalists: candidates of a round that are trained with further seeds.
        seeds: trainings of each of them.
        halving: how a round's budget is spent.
        limited: names of the limited quantities.
    """

    rounds: int
    bases: int
    winners: int
    finalists: int
    seeds: int
    halving: Halving
    limited: tuple[str, ...]

    @property
    def last_part(self) -> int:
        """Number of the last part, from 0 on."""
        return len(self.halving.ends) - 1

    def steps(self, candidates: int) -> int:
        """Optimiser steps that a round of so many candidates takes."""
        repeated = min(self.finalists, candidates) * (self.seeds - 1)
        return self.halving.steps(candidates) + repeated * self.halving.ends[-1]


def rules_of(config: ContractConfig) -> Rules:
    """The rules that a recipe gives."""
    search, proxy = config.search, config.proxy
    limited = tuple(name for name, value in config.limits if value is not None)
    halving = Halving(part_ends(proxy.steps, proxy.rungs, proxy.reduction), proxy.reduction, fewest_left(config))
    return Rules(search.rounds, search.bases, search.winners, proxy.finalists, proxy.seeds, halving, limited)


def fewest_left(config: ContractConfig) -> int:
    """Candidates without which the end of a round would have nothing to choose from."""
    return max(config.proxy.finalists, config.search.bases, config.search.winners)


@dataclass(frozen=True)
class Task:
    """A piece of a candidate's training, and the score at its end.

    Attributes:
        number: of the round; 0: of the search's base.
        part: which part of the training, from 0 on. The first seed's continues where the part before ended; any other
            seed is trained from the start up to the end of this part.
        seed: from 0 on.
    """

    number: int
    candidate: Candidate
    part: int
    seed: int = 0

    @property
    def name(self) -> str:
        """A name that can be a file's."""
        return task_name(self.number, self.candidate.shape.name, self.part + 1, self.seed)


@dataclass(frozen=True)
class Plan:
    """The candidates of a round.

    Attributes:
        limits: of the round, by name.
        results: of the candidates, with their costs and, where throughput is limited, timings; without scores.
    """

    limits: dict[str, float]
    results: list[Result]


@dataclass(frozen=True)
class Given:
    """What a search is given.

    Attributes:
        plan: the candidates of a round that contracts these bases, the best base first.
        evaluate: for each task its score, or in words why there is none.
        time: throughput by name of these shapes of a round.
        began: told of a round before it is trained.
        ended_part: told of a round, of a part's number, and of the results that go on.
        losses: the cross-entropy of each held-out sample, the mean over these tasks of a candidate, which have scores;
            None where it is not known.
    """

    plan: Callable[[int, Sequence[Shape]], Plan]
    evaluate: Callable[[Sequence[Task]], Sequence[Score | str]]
    time: Callable[[int, Sequence[Shape]], dict[str, Timing]]
    began: Callable[[int, Plan], None]
    ended_part: Callable[[int, int, Sequence[Result]], None]
    losses: Callable[[Sequence[Task]], Losses | None] = lambda _: None


def search(base: Shape, rules: Rules, given: Given) -> Iterator[RoundRecord]:
    """Contract a base, round by round.

    Raises:
        ConfigError: a round has no candidate (see ``Given.plan``), or none that could be trained.
    """
    bases: Sequence[Shape] = [base]
    for number in range(1, rules.rounds + 1):
        plan = given.plan(number, bases)
        given.began(number, plan)
        record = _round(number, [shape.name for shape in bases], plan, rules, given)
        yield record
        shapes = {result.candidate.shape.name: result.candidate.shape for result in record.results}
        bases = [shapes[name] for name in record.next_bases]


def _round(number: int, bases: Sequence[str], plan: Plan, rules: Rules, given: Given) -> RoundRecord:
    remaining = [result for result in plan.results if result.out is None]
    for part in range(rules.last_part + 1):
        _evaluate([Task(number, result.candidate, part) for result in remaining], remaining, given)
        remaining = _best(_trained(remaining, number), part, rules)
        given.ended_part(number, part, remaining)
    finalists = remaining[: rules.finalists]
    # All at once, so that no process waits for a seed's last finalist before it begins with the next seed.
    repeated = [(seed, result) for seed in range(1, rules.seeds) for result in finalists]
    tasks = [Task(number, result.candidate, rules.last_part, seed) for seed, result in repeated]
    _evaluate(tasks, [result for _, result in repeated], given)
    _time(number, remaining, given)
    found = standings(remaining, rules.limited)
    front = tuple(standing.name for standing in pareto_front(found))
    is_last = number == rules.rounds
    return RoundRecord(
        number,
        plan.limits,
        tuple(bases),
        plan.results,
        front,
        () if is_last else front[: rules.bases],
        _ties(number, remaining, found, rules, given),
    )


def _ties(
    number: int, results: Sequence[Result], found: Sequence[Standing], rules: Rules, given: Given
) -> list[tuple[str, str]]:
    """The pairs of a round's last candidates that are tied. This is for people, and decides nothing."""
    losses: dict[str, Losses | None] = {}
    for result in results:
        scores = last_scores(result)  # the first is that of the first seed; a further seed may have none
        seeds = [score.seed - scores[0].seed for score in scores]
        tasks = [Task(number, result.candidate, rules.last_part, seed) for seed in seeds]
        losses[result.candidate.shape.name] = given.losses(tasks)
    return ties(found, losses)


def _evaluate(tasks: Sequence[Task], results: Sequence[Result], given: Given) -> None:
    """Note what comes of tasks in the results of their candidates; only the first seed decides whether one leaves."""
    for task, result, found in zip(tasks, results, given.evaluate(tasks), strict=True):
        if isinstance(found, Score):
            result.scores.append(found)
        elif task.seed:
            result.diverged += 1
        else:
            result.out = found


def _trained(results: Sequence[Result], number: int) -> list[Result]:
    """Those that have not left.

    Raises:
        ConfigError: all have.
    """
    remaining = [result for result in results if result.out is None]
    if not remaining:
        raise ConfigError(
            f"no candidate of round {number} could be trained",
            where="proxy",
            found="; ".join(sorted({result.out or "" for result in results})),
            fix="lower proxy.base_lr or optim.base_lr, or raise proxy.warmup, and set output to a new folder",
        )
    return remaining


def _best(results: Sequence[Result], part: int, rules: Rules) -> list[Result]:
    """Those that go on to the next part, the best first; of the last part, all."""
    by_name = {result.candidate.shape.name: result for result in results}
    order = [by_name[standing.name] for standing in standings(results, rules.limited)]
    if part == rules.last_part:
        return order
    stay = rules.halving.stay(len(order))
    for result in order[stay:]:
        result.out = f"worse than {stay:,} others after {rules.halving.ends[part]:,} steps"
    return order[:stay]


def _time(number: int, results: Sequence[Result], given: Given) -> None:
    untimed = [result.candidate.shape for result in results if result.timing is None]
    timings = given.time(number, untimed) if untimed else {}
    for result in results:
        result.timing = result.timing or timings.get(result.candidate.shape.name)
