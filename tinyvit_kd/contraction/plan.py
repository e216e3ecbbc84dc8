"""The candidates of a round: what may be reached from its bases, and keeps to its limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.limits import Considered, Limits, limits_of_round, misses, no_candidate, unreachable, used
from tinyvit_kd.contraction.records import Candidate, Costs, Result, Timing
from tinyvit_kd.contraction.search import Plan, fewest_left
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.contraction.space import candidates, neighbours
from tinyvit_kd.contraction.throughput import Clock

_MOST_TIMED = 3  # times the wanted candidates: then those that were found may be enough


@dataclass(frozen=True)
class Planner:
    """Plans rounds.

    Attributes:
        base: the search's own, with its costs and, where throughput is limited, its timing.
        costs: of a shape.
    """

    config: ContractConfig
    base: Result
    costs: Callable[[Shape], Costs]
    clock: Clock

    def plan(self, number: int, bases: Sequence[Shape]) -> Plan:
        """The candidates of a round.

        A base that keeps to the round's limits is one of them: it has moved further than this round asks for. So are
        all shapes one move away that keep to them. Others fill the round up to ``search.candidates``: the fewer moves
        the sooner, and of as many moves those that use most of what the limits allow.

        Args:
            bases: the best first. A shape that is reached from several by as few moves counts as the best one's.

        Raises:
            ConfigError: there is none.
        """
        limits = self._limits(number)
        timings: dict[str, Timing] = {}
        missed: dict[str, Result] = {}
        while True:
            considered: dict[str, Considered] = {}
            found = self._candidates(bases, limits, timings, considered)
            if not found:
                raise no_candidate(list(considered.values()), limits, number, self.config.search.rounds)
            untimed = {each.shape.name: each for each in found if each.shape.name not in timings}
            if limits.images_per_second is None or not untimed:
                break
            timed = [each for each in found if each.shape.name in timings]
            if len(timed) >= fewest_left(self.config) and len(timings) >= _MOST_TIMED * self.config.search.candidates:
                found = timed
                break
            # A prediction lets a shape be timed; only a timing makes it a candidate.
            shapes = [each.shape for each in untimed.values()]
            timings.update(self.clock.measure(bases[0], shapes, limits.images_per_second))
            missed.update(self._missing(untimed, limits, timings))
        results = [Result(each, self.costs(each.shape), timings.get(each.shape.name)) for each in found]
        return Plan(limits.given, results + list(missed.values()))

    def _missing(
        self, candidates: Mapping[str, Candidate], limits: Limits, timings: Mapping[str, Timing]
    ) -> dict[str, Result]:
        """Of timed candidates, those that miss the limits after all."""
        results = {}
        for name, each in candidates.items():
            costs, timing = self.costs(each.shape), timings[name]
            by = misses(costs, timing.images_per_second, limits)
            if by:
                told = [f"misses the limit of {limit} by a factor of {factor:.3f}" for limit, factor in by.items()]
                results[name] = Result(each, costs, timing, out="; ".join(told))
        return results

    def require_reachable(self) -> None:
        """Check that the smallest shape of the space keeps to the target, as far as that is known without timing.

        Raises:
            ConfigError: it does not, so that no search can find one.
        """
        shape = smallest(self.base.candidate.shape, self.config)
        limits = Limits(**self.config.limits.model_dump())
        if misses(self.costs(shape), None, limits):
            raise unreachable(Considered(shape.name, self.costs(shape)), limits)

    def _limits(self, number: int) -> Limits:
        rate = None if self.base.timing is None else self.base.timing.images_per_second
        return limits_of_round(self.config.limits, self.base.costs, rate, number, self.config.search.rounds)

    def _candidates(
        self,
        bases: Sequence[Shape],
        limits: Limits,
        timings: Mapping[str, Timing],
        considered: dict[str, Considered],
    ) -> list[Candidate]:
        def meets(shape: Shape) -> bool:
            rate = None
            if limits.images_per_second is not None:
                timing = timings.get(shape.name)
                rate = self.clock.predict(shape) if timing is None else timing.images_per_second
            considered[shape.name] = Considered(shape.name, self.costs(shape), rate)
            return not misses(self.costs(shape), rate, limits)

        search = self.config.search
        # A base that is reached from another one, too, has weights of its own.
        found = {base.name: Candidate(base, base.name) for base in bases if meets(base)}
        by_moves = zip(*(candidates(base, self.config.space, meets, search.moves) for base in bases), strict=True)
        for moves, groups in enumerate(by_moves, 1):
            others = {each.shape.name: each for group in reversed(groups) for each in group}
            names = [name for name in others if name not in found]
            if moves > 1:
                names.sort(key=lambda name: -used(considered[name], limits))
                names = names[: search.candidates - len(found)]
            found |= {name: others[name] for name in names}
            if len(found) >= search.candidates:
                break
        return list(found.values())


def smallest(shape: Shape, config: ContractConfig) -> Shape:
    """The shape that is reached when every factor has been lowered as far as the space allows."""
    while lower := neighbours(shape, config.space):
        shape = lower[0].shape
    return shape
