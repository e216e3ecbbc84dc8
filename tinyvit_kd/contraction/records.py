"""What is known of candidates: costs, throughput and scores. All of it is written as JSON in the run folder."""

from __future__ import annotations

from dataclasses import dataclass, field

from tinyvit_kd.contraction.shape import Shape


@dataclass(frozen=True)
class Costs:
    """What a network takes, reckoned without its weights.

    Attributes:
        parameters: numbers.
        multiply_adds: of one image's forward pass.
        memory_bytes: float32 weights, and input and output of the largest layer for one image.
        moved_bytes: float32 inputs, outputs and weights of all layers, for one image.
    """

    parameters: int
    multiply_adds: int
    memory_bytes: int
    moved_bytes: int

    @property
    def limited(self) -> dict[str, float]:
        """What of it may be limited, by name and in the units of ``config.contraction.LimitsConfig``."""
        return {
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "memory_mib": self.memory_bytes / 2**20,
        }


@dataclass(frozen=True)
class Timing:
    """The throughput of a network's forward pass.

    Attributes:
        images_per_second: of the network.
        over_base: times the throughput of the round's first base, timed in turns with it.
        spread: largest over smallest ratio of the turns, less 1; of a prediction its standard error, as a fraction.
        how: ``measured``, ``hardware`` (reckoned from given figures) or ``predicted`` (by the cost model, not timed).
        machine: on which it was measured.
    """

    images_per_second: float
    over_base: float
    spread: float
    how: str
    machine: str


@dataclass(frozen=True)
class Score:
    """How good a briefly trained network is on the held-out samples.

    Attributes:
        cross_entropy: mean of the cross-entropy to the teacher's distribution, nats.
        agreement: how often its best class is the teacher's, percent.
        top1: how often its best class is the label, percent; None without labels.
        errors: standard errors of these means over the samples, by name; samples' own views are averaged first.
        samples: held-out samples.
        steps: optimiser steps of training so far.
        seed: of order and stochastic depth.
    """

    cross_entropy: float
    agreement: float
    top1: float | None
    errors: dict[str, float]
    samples: int
    steps: int
    seed: int


@dataclass(frozen=True)
class Candidate:
    """A shape and where it comes from.

    Attributes:
        base: name of the shape that it was contracted from; None: the search's own base.
        moves: what was lowered, for people: ``widths[3] 576 → 448``.
    """

    shape: Shape
    base: str | None = None
    moves: tuple[str, ...] = ()


@dataclass
class Result:
    """All that is known of a candidate of a round.

    Attributes:
        scores: of its trainings, in the order of parts (rungs), then seeds.
        out: why it left; None if it came to the end of its round.
        diverged: how many further seeds diverged; the scores are those of the others.
    """

    candidate: Candidate
    costs: Costs
    timing: Timing | None = None
    scores: list[Score] = field(default_factory=list)
    out: str | None = None
    diverged: int = 0
