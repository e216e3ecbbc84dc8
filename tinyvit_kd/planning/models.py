"""The networks of a plan: what each recipe's teacher or student is, and what a run folder will say of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from tinyvit_kd.config.models import ModelSpec, StudentConfig, TeacherConfig
from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.errors import CheckpointError, ConfigError
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.head import freeze_body
from tinyvit_kd.models.input_size import require_size
from tinyvit_kd.models.load_weights import load_into
from tinyvit_kd.models.modelfile import ModelCard, load_model_file, read_card
from tinyvit_kd.models.plain_card import without_fetching
from tinyvit_kd.models.student import build_student, student_spec, train_both_heads
from tinyvit_kd.models.teacher import TeacherFacts, teacher_facts
from tinyvit_kd.planning.networks import NetworkCost, cost_of, without_memory
from tinyvit_kd.runs.first_weights import initial_weights
from tinyvit_kd.runtime.distributed import Job


@dataclass(frozen=True, eq=False)
class PlannedTeacher:
    """A teacher without its weights.

    Attributes:
        build: makes the network, with random weights.
    """

    facts: TeacherFacts
    cost: NetworkCost
    build: Callable[[], nn.Module]


@dataclass(frozen=True, eq=False)
class PlannedStudent:
    """A student without its numbers.

    Attributes:
        card: what its model file will say.
        network: on the meta device.
        build: makes the network, with random weights.
    """

    card: ModelCard
    network: nn.Module
    cost: NetworkCost
    build: Callable[[], nn.Module]


def planned_teacher(config: TeacherConfig, made: PlannedStudent | None) -> PlannedTeacher:
    """The teacher of a recipe.

    Args:
        made: the run of the same plan that makes it; None if it is none of these.

    Raises:
        ConfigError, CheckpointError: see ``build_teacher``; weights are not looked at.
    """
    card = made.card if made is not None else _card(config)
    spec = _teacher_spec(config, card)
    num_classes = config.num_classes or (card.num_classes if card else None)
    size = config.image_size or (card.image_size if card else None)
    require_size(spec.kwargs, size, "teacher.kwargs.img_size")

    def build() -> nn.Module:
        return build_network(spec, num_classes, size)

    network = without_memory(build)
    facts = teacher_facts(config, network, card)
    return PlannedTeacher(facts, cost_of(network, facts.image_size, trains=False), build)


def _card(config: TeacherConfig) -> ModelCard | None:
    if config.checkpoint is None or (config.name is not None and not config.checkpoint.exists()):
        return None
    return read_card(config.checkpoint)


def _teacher_spec(config: TeacherConfig, card: ModelCard | None) -> ModelSpec:
    if config.name is not None:
        return without_fetching(ModelSpec(name=config.name, kwargs=config.kwargs))
    if card is None:
        raise ConfigError(
            "the teacher's checkpoint does not say which network it holds",
            where=str(config.checkpoint),
            fix="name it: teacher.name, a timm model name",
        )
    return without_fetching(card.spec_with(config.kwargs))


def planned_student(
    config: TrainingConfig,
    made: PlannedStudent | None,
    num_classes: int,
    classes: ClassList | None,
    size: int,
    both_heads: bool,
) -> PlannedStudent:
    """The student of a recipe.

    Args:
        made: the run of the same plan that it starts from; None if it is none of these.
        classes: the task's class list; None if it is not known.
        size: side of the views, pixels.
        both_heads: whether the loss trains a distillation head, too.

    Raises:
        ConfigError, CheckpointError: see ``build_student``; or the network has no head of its own to train.
    """
    student = config.student
    first = made.card if made is not None else _first_card(student)
    spec = student_spec(student, first)
    seed = config.schedule.seed

    def build() -> nn.Module:
        network = build_student(student, spec, num_classes, size, seed, None)
        if both_heads:
            train_both_heads(network)
        if config.train.trainable == "head":
            freeze_body(network)
        return network

    network = without_memory(build)
    card = ModelCard(
        architecture=without_fetching(spec).model_dump(mode="json"),
        num_classes=num_classes,
        image_size=size,
        mean=config.normalize.mean,
        std=config.normalize.std,
        class_name=classes.name if classes else None,
        class_ids=classes.ids if classes else None,
    )
    return PlannedStudent(card, network, cost_of(network, size, trains=True), build)


def _first_card(config: StudentConfig) -> ModelCard | None:
    if config.init_from is None or (config.given and not config.init_from.exists()):
        return None
    return read_card(config.init_from)


def require_fitting_weights(
    config: StudentConfig, made: PlannedStudent | None, student: PlannedStudent, classes: ClassList | None, job: Job
) -> None:
    """Check that a student takes the weights that it starts from; a head of other classes is mapped as in the run.

    Args:
        made: the run of the same plan that makes the weights; None: they are in a file.

    Raises:
        CheckpointError: the weights belong to another network, or their head does not fit its class list.
        ConfigError: ``student.class_list`` is not a class list.
    """
    if config.init_from is None:
        return
    state, card = load_model_file(config.init_from) if made is None else (made.network.state_dict(), made.card)
    initial = initial_weights(config, state, card, classes, job, student.card.num_classes)
    load_into(student.network, initial, str(config.init_from))


def planned_model(path: Path, made: PlannedStudent | None) -> PlannedStudent:
    """A model that is scored.

    Args:
        made: the run of the same plan that makes it; None: it is in a file.

    Raises:
        CheckpointError: the file is missing or does not say which network it holds.
    """
    if made is not None:
        return made
    card = read_card(path)
    if card is None:
        raise CheckpointError(
            "a model file does not say which network it holds",
            where=str(path),
            expected="a model.safetensors that a stage of this package wrote",
        )
    spec, num_classes, size = card.spec, card.num_classes, card.image_size

    def build() -> nn.Module:
        return build_network(spec, num_classes, size)

    network = without_memory(build)
    return PlannedStudent(card, network, cost_of(network, size, trains=False), build)
