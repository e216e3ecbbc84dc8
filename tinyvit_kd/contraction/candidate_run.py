"""One candidate: its network, its first weights, a part of its training, and its score."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Protocol

from timm.layers import DropPath
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.config.student import StudentConfig
from tinyvit_kd.contraction.inherit import inherit
from tinyvit_kd.contraction.records import Candidate, Score
from tinyvit_kd.contraction.results_folder import ResultsFolder, Values
from tinyvit_kd.contraction.rounds import read_as
from tinyvit_kd.contraction.sample_losses import Losses, read_losses, write_losses
from tinyvit_kd.contraction.search import Rules, Task
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.errors import CheckpointError, ConfigError, NonFiniteLossError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.load_weights import InitialWeights
from tinyvit_kd.models.modelfile import ModelCard, StateDict, load_model_file, save_model
from tinyvit_kd.models.student import build_student
from tinyvit_kd.planning.networks import without_memory
from tinyvit_kd.runtime.device import move_to_device
from tinyvit_kd.runtime.distributed import Job

_SCORE, _FAILED = "score", "failed"
ROUND_BITS = 32  # from which on a seed has the number of its round


class Trainer(Protocol):
    """What trains and scores networks (see ``proxy.Proxy``)."""

    @property
    def num_classes(self) -> int:
        """C of the head."""

    @property
    def image_size(self) -> int:
        """Side of the input, pixels."""

    def train(self, network: nn.Module, first: int, last: int, seed: int) -> None:
        """Train a network in place, from one optimiser step of the budget to another."""

    def score(self, network: nn.Module, steps: int, seed: int) -> tuple[Score, Losses]:
        """Score a network on the held-out samples; returns the cross-entropy of each, too."""


@dataclass(frozen=True)
class CandidateRun:
    """Makes the results of tasks.

    Attributes:
        base: the network that the search begins with.
        initial: its weights; None: it has none yet.
        drop_path_rate: of all networks of the search.
        folder: where weights are kept from part to part.
        candidates: those of each round, by its number and a shape's name; whoever plans a round notes them.
    """

    config: ContractConfig
    rules: Rules
    trainer: Trainer
    job: Job
    base: Candidate
    initial: InitialWeights | None
    drop_path_rate: float
    folder: ResultsFolder
    candidates: dict[tuple[int, str], Candidate] = field(default_factory=dict)

    def note(self, number: int, candidates: Sequence[Candidate]) -> None:
        """Note a round's candidates, from whose weights those of the next round are made."""
        self.candidates.update({(number, each.shape.name): each for each in candidates})

    def make(self, task: Task) -> Values:
        """Train and score a candidate, and keep its weights; why not, where its training diverges.

        Weights that it needs and that are not there any more are made anew.
        """
        try:
            network, steps = self._trained(task)
            score, losses = self.trainer.score(network, steps, self._seed(task.seed))
            path = self.folder.losses(task.name)
            if self.folder.read(task.name) is None or read_losses(path) is None:  # others may have told ties by them
                write_losses(path, losses)  # before the result, for which others wait
            return {_SCORE: asdict(score)}
        except NonFiniteLossError as error:
            return {_FAILED: f"its training diverged: {error.what}"}

    def _trained(self, task: Task) -> tuple[nn.Module, int]:
        """A network at the end of a task's part, and the optimiser steps behind it."""
        if task.number == 0 and self.initial is not None:
            network = self._network(self.base.shape, task.seed, self.initial)
            self._save(task, network, 0)
            return network, 0
        ends = self.rules.halving.ends
        is_continued = task.seed == 0 and task.part > 0
        first = self.weights(self._before(task)) if is_continued else self._first_weights(task)
        network = self._network(task.candidate.shape, task.seed, first)
        for part in range(task.part if is_continued else 0, task.part + 1):
            self.trainer.train(network, ends[part - 1] if part else 0, ends[part], self._order_seed(task))
        if task.seed == 0:
            self._save(task, network, ends[task.part])
        return network, ends[task.part]

    def weights(self, task: Task) -> StateDict:
        """The weights at the end of a task's part: from their file or, where that is gone or damaged, made anew."""
        with suppress(CheckpointError):  # a power loss may leave an empty file
            return load_model_file(self.folder.weights(task.name))[0]
        # Not from the new file: a process that is ahead may remove it at any moment.
        network, _ = self._trained(task)
        return {name: value.detach().cpu() for name, value in network.state_dict().items()}

    def _first_weights(self, task: Task) -> InitialWeights | None:
        if task.number == 0 or not self.config.proxy.inherit:
            return None
        before = task.number - 1
        base = self.base if before == 0 else self.candidates[before, task.candidate.base or ""]
        state = self.weights(Task(before, base, self.rules.last_part))
        return InitialWeights(inherit(state, base.shape, task.candidate.shape))

    def _network(self, shape: Shape, seed: int, first: InitialWeights | StateDict | None) -> nn.Module:
        student = student_of(shape, self.config, self.drop_path_rate)
        initial = InitialWeights(first) if isinstance(first, dict) else first
        if initial is self.initial:  # for messages
            student = student.model_copy(update={"init_from": self.config.student.origin})
        network = build_student(
            student,
            _spec_of(student),
            self.trainer.num_classes,
            self.trainer.image_size,
            self._seed(seed),
            initial,
        )
        move_to_device(network, self.job.device, self.config.runtime.channels_last)
        return network

    def _save(self, task: Task, network: nn.Module, steps: int) -> None:
        student = student_of(task.candidate.shape, self.config, self.drop_path_rate)
        card = ModelCard(
            architecture=_spec_of(student).model_dump(mode="json"),
            num_classes=self.trainer.num_classes,
            image_size=self.trainer.image_size,
            mean=self.config.normalize.mean,
            std=self.config.normalize.std,
            step=steps,
        )
        save_model(self.folder.weights(task.name), network.state_dict(), card)

    def _seed(self, seed: int) -> int:
        return self.config.schedule.seed + seed

    def _order_seed(self, task: Task) -> int:
        """Of the samples and their order: all candidates of a round see the same, and each round others."""
        return self._seed(task.seed) + (task.number << ROUND_BITS)

    @staticmethod
    def _before(task: Task) -> Task:
        return Task(task.number, task.candidate, task.part - 1)


def score_of(values: Values, where: str) -> Score | str:
    """A task's score or, in words, why it has none.

    Args:
        where: the file that they are from, for errors.

    Raises:
        ConfigError: they are neither.
    """
    return str(values[_FAILED]) if _FAILED in values else read_as(Score, values.get(_SCORE), where)


def student_of(shape: Shape, config: ContractConfig, drop_path_rate: float) -> StudentConfig:
    """A shape as the student of a recipe, with the base's stochastic depth."""
    described = shape.spec().model_dump(mode="json", exclude_unset=True)
    settings = {name: value for name, value in described.items() if value} | {"drop_path_rate": drop_path_rate}
    if config.student.grad_checkpointing:
        settings["grad_checkpointing"] = True
    return StudentConfig.model_validate(settings)


def drop_path_rate_of(spec: ModelSpec, num_classes: int, image_size: int) -> float:
    """The stochastic depth of a network: what the recipe says or, where it says nothing, the network's own rate."""
    if spec.drop_path_rate is not None:
        return spec.drop_path_rate
    network = without_memory(lambda: build_network(spec, num_classes, image_size))
    rates = [float(module.drop_prob or 0) for module in network.modules() if isinstance(module, DropPath)]
    return round(max(rates, default=0.0), 6)


def require_score(found: Score | str, what: str) -> Score:
    """A score that the search cannot do without.

    Raises:
        ConfigError: there is none.
    """
    if isinstance(found, Score):
        return found
    raise ConfigError(
        f"{what} could not be trained",
        where="proxy",
        found=found,
        fix="lower proxy.base_lr or optim.base_lr, or raise proxy.warmup, and set output to a new folder",
    )


def _spec_of(student: StudentConfig) -> ModelSpec:
    return ModelSpec.model_validate(student.model_dump(include=set(ModelSpec.model_fields)))
