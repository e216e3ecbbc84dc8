"""A search over small real networks, whose training and scores are made up, so that it takes a moment."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.contraction.planted import contract_config
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.contraction.candidate_run import ROUND_BITS, CandidateRun
from tinyvit_kd.contraction.claims import Claims
from tinyvit_kd.contraction.outcome import write_rounds
from tinyvit_kd.contraction.plan import Planner
from tinyvit_kd.contraction.records import Candidate, Costs, Result, Score, Timing
from tinyvit_kd.contraction.results_folder import ResultsFolder
from tinyvit_kd.contraction.rounds import Outcome
from tinyvit_kd.contraction.sample_losses import Losses
from tinyvit_kd.contraction.search import rules_of
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.contraction.shared_search import SharedSearch
from tinyvit_kd.contraction.space import shape_of
from tinyvit_kd.models.load_weights import InitialWeights
from tinyvit_kd.models.student import student_spec
from tinyvit_kd.runtime.distributed import solo_job

MICRO: dict[str, Any] = {
    "embed_dims": [16, 16, 32, 32],
    "depths": [1, 1, 2, 1],
    "num_heads": [1, 2, 4, 4],
    "window_sizes": [2, 2, 2, 2],
}
SPACE: dict[str, Any] = {
    "tiny_vit": {"factors": ["widths", "depths"], "width_step": 8, "lowest_widths": [8, 8, 8, 8]},
}
CLASSES, SIZE = 5, 16
HARDNESS = np.linspace(-1.0, 1.0, 100)  # of the held-out samples


def micro_config(**sections: Any) -> ContractConfig:
    """Two rounds from ``MICRO``; keyword arguments replace whole sections."""
    return contract_config(
        **{
            "student": {"tiny_vit": MICRO},
            "space": SPACE,
            "limits": {"parameters": 0.8 * parameters_of(shape_of_micro())},
            "search": {"rounds": 2, "bases": 2},
            "proxy": {"steps": 8, "rungs": 2, "finalists": 2, "seeds": 2},
        }
        | sections
    )


def shape_of_micro() -> Shape:
    """The shape of ``MICRO``."""
    spec = student_spec(contract_config(student={"tiny_vit": MICRO}).student, None)
    return shape_of(spec, CLASSES, SIZE)


def parameters_of(shape: Shape) -> int:
    """A stand-in for the number of parameters."""
    return sum(width**2 * depth for width, depth in zip(shape["widths"], shape["depths"], strict=True))


def costs_of(shape: Shape) -> Costs:
    """Costs that need no network."""
    return Costs(parameters_of(shape), parameters_of(shape), parameters_of(shape), parameters_of(shape))


class FakeClock:
    """Equal throughput for all."""

    def measure(self, base: Shape, shapes: Sequence[Shape], least: float | None = None) -> dict[str, Timing]:
        """Timings of all shapes."""
        del base, least
        return {shape.name: Timing(100.0, 1.0, 0.0, "measured", "here") for shape in shapes}

    def predict(self, shape: Shape) -> float | None:
        """Nothing."""
        del shape
        return None


@dataclass
class FakeTrainer:
    """Adds a little to every weight in a step, and scores by the mean of all weights.

    Attributes:
        before: called before each training, with how many there were.
        trained: (first, last, seed) of each training.
    """

    before: Callable[[int], None] = lambda _: None
    trained: list[tuple[int, int, int]] = field(default_factory=list)
    num_classes: int = CLASSES
    image_size: int = SIZE

    def train(self, network: nn.Module, first: int, last: int, seed: int) -> None:
        """Add the same to all weights, by step and seed, whatever the round."""
        seed %= 1 << ROUND_BITS
        self.before(len(self.trained))
        self.trained.append((first, last, seed))
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(1e-3 * (last - first) * (1 + 0.1 * seed))

    def score(self, network: nn.Module, steps: int, seed: int) -> tuple[Score, Losses]:
        """Tell the mean weight; more is better. Samples differ by as much for all networks."""
        mean = torch.cat([weight.detach().flatten() for weight in network.parameters()]).double().mean().item()
        losses = (3 - mean + HARDNESS).astype(np.float32)
        errors = {"cross_entropy": float(HARDNESS.std(ddof=1)) / 10, "agreement": 0.5}
        return Score(3 - mean, 50.0, None, errors, len(losses), steps, seed), losses


def shared_search(
    folder: Path, config: ContractConfig, trainer: FakeTrainer, initial: InitialWeights | None = None, first: float = 0
) -> SharedSearch:
    """A search in a folder, as a process opens it."""
    rules, base = rules_of(config), Candidate(shape_of_micro())
    results = ResultsFolder(folder, Claims(folder / "claims", lasts=5.0, renewed_every=0.1), first)
    run = CandidateRun(config, rules, trainer, solo_job(), base, initial, 0.0, results)
    planner = Planner(config, Result(base, costs_of(base.shape)), costs_of, FakeClock())
    return SharedSearch(rules, solo_job(), planner, run, results)


def complete(folder: Path, shared: SharedSearch) -> Outcome:
    """Run a search to its end, and write its rounds as the command does."""
    for outcome in shared.outcomes():
        write_rounds(folder, outcome)
    return outcome


def worker(folder: Path, config: ContractConfig, seconds: float, first: float) -> None:
    """A process that shares a search, and takes a while for each training; notes each in a file."""

    def slowly(count: int) -> None:
        (folder / f"began-{os.getpid()}-{count}").touch()
        time.sleep(seconds)

    complete(folder, shared_search(folder, config, FakeTrainer(slowly), first=first))
