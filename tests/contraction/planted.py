"""A search whose scores are planted: a function of the shape alone, with a known best shape within any limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tinyvit_kd.config.load import validate
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.plan import Planner
from tinyvit_kd.contraction.records import Candidate, Costs, Result, Score, Timing
from tinyvit_kd.contraction.rounds import RoundRecord
from tinyvit_kd.contraction.search import Given, Plan, Rules, Task, rules_of, search
from tinyvit_kd.contraction.shape import Shape

BASE = Shape(
    "tiny_vit",
    (
        ("widths", (64, 128, 192, 256)),
        ("depths", (2, 2, 4, 2)),
        ("windows", (7, 7, 14, 7)),
        ("mbconv_expand_ratio", 4.0),
        ("mlp_ratio", 4.0),
    ),
    (("head_widths", (32, 32, 32)), ("local_conv_size", 3)),
)
WORTH = {"widths": (3.0, 1.0, 2.0, 1.0), "depths": (0.5, 1.0, 3.0, 0.5)}  # how much each stage lowers the loss


def contract_config(**sections: Any) -> ContractConfig:
    """A recipe of a search; keyword arguments replace whole sections."""
    tree: dict[str, Any] = {
        "stage": "contract",
        "output": "search",
        "student": {"tiny_vit": {"embed_dims": list(BASE["widths"]), "depths": list(BASE["depths"])}},
        "optim": {"base_lr": 1e-3},
        "schedule": {"epochs": 1, "warmup_epochs": 0, "global_batch_size": 16, "lanes": 4},
        "shards": {"path": "shards"},
        "store": {"path": "store"},
        "space": {"tiny_vit": {"factors": ["widths", "depths"]}},
        "limits": {"parameters": 0.3 * costs_of(BASE).parameters},
        "search": {"rounds": 4, "bases": 2},
        "proxy": {"steps": 80, "rungs": 3, "finalists": 2, "seeds": 2},
    }
    return validate(ContractConfig, tree | sections, "here")


def costs_of(shape: Shape) -> Costs:
    """Costs in the manner of a network's: width squared times depth."""
    parameters = sum(width**2 * depth for width, depth in zip(shape["widths"], shape["depths"], strict=True))
    return Costs(parameters, 50 * parameters, 4 * parameters, 8 * parameters)


def loss_of(shape: Shape) -> float:
    """The planted score: nats that wider and deeper stages lower, each by its worth."""
    return 10.0 - sum(
        worth * math.log(value)
        for factor, worths in WORTH.items()
        for worth, value in zip(worths, shape[factor], strict=True)
    )


@dataclass
class PlantedClock:
    """Images per second in proportion to costs.

    Attributes:
        measured: names of the shapes that were timed, in turn.
    """

    measured: list[str] = field(default_factory=list)

    def measure(self, base: Shape, shapes: Sequence[Shape], least: float | None = None) -> dict[str, Timing]:
        """Timings of all shapes."""
        del least
        self.measured += [shape.name for shape in shapes]
        own = rate_of(base)
        return {shape.name: Timing(rate_of(shape), rate_of(shape) / own, 0.0, "measured", "here") for shape in shapes}

    def predict(self, shape: Shape) -> float | None:
        """A prediction that is a third too high."""
        return 4 / 3 * rate_of(shape)


def rate_of(shape: Shape) -> float:
    """The planted throughput."""
    return 1e9 / costs_of(shape).parameters


def score_of(task: Task, rules: Rules) -> Score:
    """The planted score of a task; what is trained for longer is better."""
    steps = rules.halving.ends[task.part]
    loss = loss_of(task.candidate.shape) + 1 / steps
    return Score(loss, 50.0, None, {"cross_entropy": 0.001, "agreement": 0.5}, 1000, steps, task.seed)


@dataclass
class PlantedSearch:
    """A search over planted scores, which notes what it was asked.

    Attributes:
        diverging: names of shapes that cannot be trained.
        diverging_seeds: numbers of seeds with which nothing can be trained.
        asked: tasks, in turn.
        together: how many tasks were asked for at once, in turn.
        compared: seeds of a candidate whose losses were asked for, in turn.
    """

    config: ContractConfig
    diverging: frozenset[str] = frozenset()
    diverging_seeds: frozenset[int] = frozenset()
    clock: PlantedClock = field(default_factory=PlantedClock)
    asked: list[Task] = field(default_factory=list)
    together: list[int] = field(default_factory=list)
    compared: list[list[int]] = field(default_factory=list)

    def run(self) -> list[RoundRecord]:
        """All rounds."""
        rules = rules_of(self.config)
        base = Result(Candidate(BASE), costs_of(BASE), self.clock.measure(BASE, [BASE])[BASE.name])
        planner = Planner(self.config, base, costs_of, self.clock)

        def evaluate(tasks: Sequence[Task]) -> list[Score | str]:
            self.asked += tasks
            self.together.append(len(tasks))
            return ["it diverged" if self._diverges(task) else score_of(task, rules) for task in tasks]

        def time(number: int, shapes: Sequence[Shape]) -> dict[str, Timing]:
            del number
            return self.clock.measure(BASE, shapes)

        def losses(tasks: Sequence[Task]) -> None:
            self.compared.append([task.seed for task in tasks])

        def ignore(number: int, *_: Plan | int | Sequence[Result]) -> None:
            del number

        return list(search(BASE, rules, Given(planner.plan, evaluate, time, ignore, ignore, losses)))

    def _diverges(self, task: Task) -> bool:
        return task.candidate.shape.name in self.diverging or task.seed in self.diverging_seeds
