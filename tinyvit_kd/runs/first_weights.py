"""Where a student's first weights come from, and how their head's classes become the task's."""

from __future__ import annotations

from dataclasses import dataclass

from tinyvit_kd.config.models import StudentConfig
from tinyvit_kd.data.class_list import ClassList, class_map, load_class_list
from tinyvit_kd.models.initial import InitialWeights
from tinyvit_kd.models.modelfile import ModelCard, hash_weights, load_model_file
from tinyvit_kd.runs.class_lists import card_classes
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say


@dataclass(frozen=True)
class FirstWeights:
    """What a student starts from; all empty where its weights are random."""

    initial: InitialWeights | None = None
    card: ModelCard | None = None
    weights_hash: str = "random"


def read_first_weights(config: StudentConfig, classes: ClassList | None, job: Job) -> FirstWeights:
    """Read ``student.init_from``, and find the task's classes in its head by name where both lists are known.

    Raises:
        CheckpointError: the file is missing or damaged.
        ConfigError: ``student.class_list`` is not a class list.
    """
    if config.init_from is None:
        return FirstWeights()
    state, card = load_model_file(config.init_from)
    fresh = config.head == "fresh"
    source = load_class_list(config.class_list) if config.class_list is not None else card_classes(card)
    if fresh or source is None or classes is None or source.ids == classes.ids:
        return FirstWeights(InitialWeights(state, fresh_head=fresh), card, hash_weights(state))
    found = class_map(source, classes)
    known = int((found >= 0).sum())
    say(job, f"{known} of {len(found)} classes of {classes.name} are in {config.init_from}'s head ({source.name})")
    # Where the lists share nothing there is nothing to remap.
    initial = InitialWeights(state, found, source_classes=len(source.ids), fresh_head=known == 0)
    return FirstWeights(initial, card, hash_weights(state))
