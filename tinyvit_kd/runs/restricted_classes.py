"""Restricts a teacher to a user's classes, by name."""

from __future__ import annotations

from dataclasses import replace

from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.data.labels.class_groups import load_class_groups
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.restriction import Restriction
from tinyvit_kd.models.teacher import TeacherFacts
from tinyvit_kd.runs.class_lists import card_classes, named_classes

_WHERE = "teacher.restrict_to"


def restricted(config: TeacherConfig, facts: TeacherFacts) -> TeacherFacts:
    """A teacher with the classes of ``restrict_to``, where its recipe names any.

    Args:
        facts: of the teacher with all of its network's classes.

    Raises:
        ConfigError: the teacher's classes are not known, it lacks some of the user's, or a list or file is none.
    """
    if config.restrict_to is None:
        return facts
    known = own_classes(config, facts)
    if known is None:
        raise ConfigError(
            "the teacher cannot be restricted to classes: it is not known which classes it has",
            where=f"{_WHERE}: {config.restrict_to}",
            found=f"{facts.name} with {facts.num_classes:,} classes, without a class list",
            fix="name its class list in teacher.class_list, for example imagenet",
        )
    groups = load_class_groups(config.restrict_to, _WHERE)
    members = groups.positions(known, f"{_WHERE}: {config.restrict_to}")
    return replace(
        facts,
        num_classes=len(members),
        class_name=groups.classes.name,
        class_ids=groups.classes.ids,
        restriction=Restriction(members, facts.num_classes),
    )


def own_classes(config: TeacherConfig, facts: TeacherFacts) -> ClassList | None:
    """The class list of a teacher's own head: the recipe's, else that of its file; None if there is none.

    Args:
        facts: of the teacher before it is restricted.

    Raises:
        ConfigError: the list has another number of classes than the head.
    """
    if config.class_list is None:
        return card_classes(facts)
    return named_classes(config.class_list, facts.num_classes, facts.name, "teacher.class_list")
