"""A search that several processes share through its folder; one process is the same, alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace

from tinyvit_kd.contraction.candidate_run import CandidateRun, require_score, score_of
from tinyvit_kd.contraction.front import standings
from tinyvit_kd.contraction.outcome import describe_limits, told_diverged
from tinyvit_kd.contraction.plan import Planner
from tinyvit_kd.contraction.records import Result, Score, Timing
from tinyvit_kd.contraction.result_names import plan_name, round_of, timings_name
from tinyvit_kd.contraction.results_folder import ResultsFolder, Values
from tinyvit_kd.contraction.rounds import Outcome, RoundRecord, as_plain, read_as
from tinyvit_kd.contraction.sample_losses import Losses, mean_losses, read_losses
from tinyvit_kd.contraction.search import Given, Plan, Rules, Task, search
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import Beat, saying
from tinyvit_kd.runtime.log import say, say_any_rank
from tinyvit_kd.runtime.wording import counted

LOOK_EVERY = 2.0  # seconds between looks for what other processes make


@dataclass(frozen=True)
class SharedSearch:
    """Makes, or waits for, all that a search is given.

    Attributes:
        job: this process among those of its launcher, for what it prints.
        planner: plans rounds, from the network that the search begins with.
        run: makes the results of tasks.
        plans: of the rounds that have begun, by number.
        first_bases: the best base of each of them, in turns with which its shapes are timed.
    """

    rules: Rules
    job: Job
    planner: Planner
    run: CandidateRun
    folder: ResultsFolder
    plans: dict[int, Plan] = field(default_factory=dict)
    first_bases: dict[int, Shape] = field(default_factory=dict)

    def outcomes(self) -> Iterator[Outcome]:
        """What is known after each round; the last has winners.

        Raises:
            ConfigError: no shape keeps to the limits, or networks cannot be trained.
        """
        base = self._finished_base()
        trainer, targets = self.run.trainer, self.run.config.limits.model_dump(exclude_none=True)
        outcome = Outcome(base, [], (), targets, trainer.image_size, trainer.num_classes)
        for record in search(base.candidate.shape, self.rules, self._given(replace(self.planner, base=base))):
            winners = record.front[: self.rules.winners] if record.number == self.rules.rounds else ()
            outcome = replace(outcome, rounds=[*outcome.rounds, record], winners=winners)
            self._end_round(record)
            yield outcome

    def _finished_base(self) -> Result:
        """The base with its scores, if candidates inherit its weights, and its throughput."""
        base, last = self.planner.base, self.rules.last_part
        shape, scores = base.candidate.shape, base.scores
        if self.run.config.proxy.inherit:
            # Given weights are only scored; the base is trained part by part, as candidates are.
            parts = [last] if self.run.initial is not None else list(range(last + 1))
            say(self.job, f"the base, {shape.name}: {_told(base)}")
            for part in parts:
                (found,) = self._evaluate([Task(0, base.candidate, part)])
                scores = [*scores, require_score(found, "the base")]
            self.folder.remove_weights(Task(0, base.candidate, part).name for part in range(last))
        return replace(base, scores=scores, timing=self._time(0, [shape])[shape.name])

    def _given(self, planner: Planner) -> Given:
        def plan(number: int, bases: Sequence[Shape]) -> Plan:
            name = plan_name(number)

            def make(_: str) -> Values:
                with saying(f"planning round {number}"):
                    return as_plain(planner.plan(number, bases))

            (values,) = self._complete([name], make, "plan")
            planned = read_as(Plan, values, _file(name))
            self.run.note(number, [each.candidate for each in planned.results])
            self.plans[number], self.first_bases[number] = planned, bases[0]
            return planned

        return Given(plan, self._evaluate, self._time, self._say_began, self._end_part, self._losses)

    def _evaluate(self, tasks: Sequence[Task]) -> list[Score | str]:
        by_name = {task.name: task for task in tasks}

        def make(name: str) -> Values:
            values = self.run.make(by_name[name])
            say_any_rank(self.job, f"  {name}: {_told_score(score_of(values, _file(name)))}")
            return values

        found = self._complete(list(by_name), make, "training")
        return [score_of(values, _file(name)) for name, values in zip(by_name, found, strict=True)]

    def _losses(self, tasks: Sequence[Task]) -> Losses | None:
        return mean_losses([read_losses(self.folder.losses(task.name)) for task in tasks])

    def _time(self, number: int, shapes: Sequence[Shape]) -> dict[str, Timing]:
        base = self.planner.base.candidate.shape if number == 0 else self.first_bases[number]
        name = timings_name(number)

        def make(_: str) -> Values:
            return {name: asdict(timing) for name, timing in self.planner.clock.measure(base, shapes).items()}

        (values,) = self._complete([name], make, "timing")
        return read_as(dict[str, Timing], values, _file(name))

    def _complete(self, names: Sequence[str], make: Callable[[str], Values], unit: str) -> list[Values]:
        with ExitStack() as until_complete:
            beats: list[Beat] = []

            def wait(left: Sequence[str]) -> None:
                at_work = self.folder.at_work(left)
                what = f"other processes at work{f' ({at_work})' if at_work else ''}"
                if not beats:
                    beats.append(until_complete.enter_context(saying(what, len(names), unit)))
                beats[0].what = what
                beats[0].at(len(names) - len(left))
                time.sleep(LOOK_EVERY)

            return self.folder.complete(names, make, wait)

    def _say_began(self, number: int, plan: Plan) -> None:
        rules, count = self.rules, sum(result.out is None for result in plan.results)
        parts = " + ".join(f"{candidates:,} × {steps:,}" for candidates, steps in rules.halving.parts(count))
        repeated = min(rules.finalists, count) * (rules.seeds - 1)
        further = f" + {repeated:,} × {rules.halving.ends[-1]:,}" if repeated else ""
        say(
            self.job,
            f"round {number} of {rules.rounds}, {describe_limits(plan.limits)}: {counted(count, 'candidate')}, "
            f"{parts}{further} = {rules.steps(count):,} optimiser steps",
        )
        if number == 1 and rules.rounds > 1:
            say(self.job, f"  with as many in each round, {rules.rounds * rules.steps(count):,} steps in all")

    def _end_part(self, number: int, part: int, remaining: Sequence[Result]) -> None:
        everyone = [result.candidate for result in self.plans[number].results]
        on = {result.candidate.shape.name for result in remaining}
        obsolete = [Task(number, each, part) for each in everyone if each.shape.name not in on]
        obsolete += [Task(number, each, part - 1) for each in everyone if part]
        self.folder.remove_weights(task.name for task in obsolete)
        best = standings(remaining, self.rules.limited)[0]
        what = f"part {part + 1} of {self.rules.last_part + 1}"
        rest = "go on" if part < self.rules.last_part else "have come to the end"
        say(self.job, f"  {what}: {len(on):,} {rest}; the best is {best.name}, {best.loss:.4f} ± {best.error:.4f}")

    def _end_round(self, record: RoundRecord) -> None:
        """Say what came of a round, and remove weights that the next one does not inherit."""
        by_name: Mapping[str, Result] = {result.candidate.shape.name: result for result in record.results}
        bases = [by_name[name].candidate for name in record.next_bases]
        inherited = {Task(record.number, base, self.rules.last_part).name for base in bases}

        def are_needed(name: str) -> bool:
            number = round_of(name)  # of a later round, processes that are ahead need them
            return number is None or number > record.number or name in inherited

        self.folder.remove_left(are_needed)
        for name in record.next_bases or record.front[: self.rules.winners]:
            use = "a base of the next round" if record.next_bases else "a winner"
            say(self.job, f"  {use}: {name}, {_told(by_name[name])}{told_diverged(by_name[name], self.rules)}")
            tied = [one if other == name else other for one, other in record.ties if name in (one, other)]
            if tied:
                say(self.job, f"    tied with {', '.join(tied)}")


def _file(name: str) -> str:
    return f"results/{name}.json"


def _told(result: Result) -> str:
    return f"{result.costs.parameters:,} parameters, {result.costs.multiply_adds / 1e6:,.1f} M multiply-adds"


def _told_score(found: Score | str) -> str:
    if isinstance(found, str):
        return found
    top1 = "" if found.top1 is None else f", top-1 {found.top1:.2f} %"
    error = found.errors["cross_entropy"]
    return f"cross-entropy {found.cross_entropy:.4f} ± {error:.4f}, agreement {found.agreement:.2f} %{top1}"
