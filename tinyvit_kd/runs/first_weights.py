"""A student's first weights: where they come from, and how the classes of their head are mapped to the task's."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.models import ModelSource
from tinyvit_kd.config.student import StudentConfig
from tinyvit_kd.data.labels.class_list import ClassList, class_map, load_class_list
from tinyvit_kd.models.load_weights import InitialWeights
from tinyvit_kd.models.model_location import model_path
from tinyvit_kd.models.modelfile import ModelCard, StateDict, hash_weights
from tinyvit_kd.models.open_network import open_pretrained
from tinyvit_kd.models.read_model import read_model
from tinyvit_kd.runs.class_lists import assumed_classes, card_classes
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say


@dataclass(frozen=True)
class FirstWeights:
    """The weights that a student starts from; the defaults stand for random weights."""

    initial: InitialWeights | None = None
    card: ModelCard | None = None
    weights_hash: str = "random"
    architecture: ModelSpec | None = None  # that an earlier start of the run read, where the hub describes the network


def read_first_weights(
    config: StudentConfig, classes: ClassList | None, job: Job, num_classes: int | None = None
) -> FirstWeights:
    """Read ``student.init_from``, or fetch what ``student.pretrained`` asks for.

    If both class lists are known, the task's classes are found in its head by name.

    Args:
        classes: the task's class list; None if it is not known.
        num_classes: of the task; where a list is missing and the head has as many, its classes are taken to be these.

    Raises:
        CheckpointError: the file is missing or damaged.
        ConfigError: ``student.class_list`` is not a class list, or timm cannot fetch its weights.
    """
    if config.origin is None:
        return FirstWeights()
    state, card = _read(config)
    initial = initial_weights(config, state, card, classes, job, num_classes)
    return FirstWeights(initial, card, hash_weights(state))


def initial_weights(
    config: StudentConfig,
    state: StateDict,
    card: ModelCard | None,
    classes: ClassList | None,
    job: Job,
    num_classes: int | None = None,
) -> InitialWeights:
    """What becomes of weights to start from, and of their head; arguments as above.

    Args:
        state: the weights to start from.
        card: of the same file, where it has one.

    Raises:
        ConfigError: ``student.class_list`` is not a class list.
    """
    fresh = config.head == "fresh"
    source = load_class_list(config.class_list) if config.class_list is not None else card_classes(card)
    assumed = assumed_classes(classes, source, f"the head of {config.origin}")
    if assumed is not None and not fresh and card is not None and card.num_classes == num_classes:
        say(job, assumed)
    if fresh or source is None or classes is None or source.ids == classes.ids:
        return InitialWeights(state, fresh_head=fresh)
    positions = class_map(source, classes)
    common = int((positions >= 0).sum())
    say(
        job,
        f"{common} of {len(positions)} classes ({classes.name}) are in the head of {config.origin} ({source.name})",
    )
    # If the lists have no class in common, there is nothing to map.
    return InitialWeights(state, positions, source_classes=len(source.ids), fresh_head=common == 0)


def _read(config: StudentConfig) -> tuple[StateDict, ModelCard | None]:
    """Weights, and what is known of their network; fetched ones at their own size, with their own head."""
    if config.init_from is not None:
        found = read_model(model_path(config.init_from), config.name)
        return found.state, found.card
    kwargs = {name: value for name, value in config.kwargs.items() if name != "img_size"}
    opened = open_pretrained(ModelSource(name=config.name, pretrained=True, kwargs=kwargs), "student.")
    return opened.network.state_dict(), opened.card
