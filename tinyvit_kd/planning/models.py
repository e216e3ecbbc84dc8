"""The networks of a plan: what each recipe's teacher or student is, and what a run folder will say of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from tinyvit_kd.config.models import ModelSource, NetworkSource, TeacherConfig
from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.config.student import StudentConfig
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.models.backbones import backbone_of
from tinyvit_kd.models.embedding_head import HeadedNetwork, headed_teacher
from tinyvit_kd.models.head import freeze_body
from tinyvit_kd.models.load_weights import load_into
from tinyvit_kd.models.model_location import is_there, model_path
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.models.open_network import known_network
from tinyvit_kd.models.plain_card import without_fetching
from tinyvit_kd.models.read_model import read_description, read_model
from tinyvit_kd.models.student import build_student, student_spec, train_both_heads
from tinyvit_kd.models.teacher import TeacherFacts, headed_facts, teacher_facts
from tinyvit_kd.planning.networks import NetworkCost, cost_of, without_memory
from tinyvit_kd.runs.first_weights import initial_weights
from tinyvit_kd.runs.restricted_classes import restricted
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
        cost: at the size of its last epoch.
        build: makes the network, with random weights.
        share: multiply-adds of a training's mean view, relative to one of the last size.
    """

    card: ModelCard
    network: nn.Module
    cost: NetworkCost
    build: Callable[[], nn.Module]
    share: float = 1.0


def planned_teacher(config: TeacherConfig, made: PlannedStudent | None) -> PlannedTeacher:
    """The teacher of a recipe.

    Args:
        made: the run of the same plan that makes it; None if it is none of these.

    Raises:
        ConfigError, CheckpointError: see ``build_teacher`` and ``restricted``; weights are not looked at.
    """
    card = _first_card(config, made)
    build: Callable[[], nn.Module]
    if config.head is not None:
        headed = headed_teacher(config, backbone_of(config, card))
        build, network = headed.build, without_memory(headed.build)
        assert isinstance(network, HeadedNetwork)
        facts = headed_facts(headed, network)
    else:
        known = known_network(config, card, "teacher.")
        build = known.shell
        network = without_memory(build)
        facts = teacher_facts(config, network, known.card_of(network))
    facts = restricted(config, facts)
    return PlannedTeacher(facts, cost_of(network, facts.image_size, trains=False), build)


def _first_card(source: NetworkSource, made: PlannedStudent | None) -> ModelCard | None:
    """The card of the run that makes a network, or of its file; None where its name says all and no file is there."""
    if made is not None:
        return made.card
    if source.file is None or source.torchvision is not None:
        return None
    if (source.name is not None or source.call is not None) and not is_there(source.file):
        return None
    return read_description(model_path(source.file), source.name)


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
    first = made.card if made is not None else _card_to_start_from(student)
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
    final = student.final_size(size)
    card = ModelCard(
        architecture=without_fetching(spec).model_dump(mode="json"),
        num_classes=num_classes,
        image_size=final,
        mean=config.normalize.mean,
        std=config.normalize.std,
        class_name=classes.name if classes else None,
        class_ids=classes.ids if classes else None,
    )
    # The last one leaves the network in training mode.
    costs = {each: cost_of(network, each, trains=each == final) for each in student.sizes_by_epoch(size).values()}
    return PlannedStudent(card, network, costs[final], build, _mean_share(config, size, costs))


def _mean_share(config: TrainingConfig, size: int, costs: dict[int, NetworkCost]) -> float:
    """Mean multiply-adds of an image over the epochs, relative to one of the last size.

    Args:
        size: side of the views, pixels.
        costs: of an image, by its side.
    """
    sizes = config.student.sizes_by_epoch(size)
    ends = [*list(sizes)[1:], config.schedule.epochs]
    lasting = [(end - first, side) for (first, side), end in zip(sizes.items(), ends, strict=True)]
    whole = config.schedule.epochs * costs[max(costs)].multiply_adds
    return sum(epochs * costs[side].multiply_adds for epochs, side in lasting) / whole


def _card_to_start_from(config: StudentConfig) -> ModelCard | None:
    if config.init_from is None or (config.given and not is_there(config.init_from)):
        return None
    return read_description(model_path(config.init_from), config.name)


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
    if made is None:
        found = read_model(model_path(config.init_from), config.name)
        state, card = found.state, found.card
    else:
        state, card = made.network.state_dict(), made.card
    initial = initial_weights(config, state, card, classes, job, student.card.num_classes)
    with warnings.catch_warnings():
        # torch says of each tensor that a network without memory keeps no numbers, which is what it is for.
        warnings.filterwarnings("ignore", message=r"(?s)for .*: copying from a non-meta parameter")
        load_into(student.network, initial, config.init_from)


def planned_model(config: ModelSource, made: PlannedStudent | None) -> PlannedStudent:
    """A model that is scored.

    Args:
        made: the run of the same plan that makes it; None: it is in a file, or timm's.

    Raises:
        CheckpointError: the file is missing or does not say which network it holds.
        ConfigError: two sizes of its input are given, or timm knows no such network.
    """
    known = known_network(config, _first_card(config, made), "")
    network = without_memory(known.shell)
    card = known.card_of(network)
    return PlannedStudent(card, network, cost_of(network, card.image_size, trains=False), known.shell)
