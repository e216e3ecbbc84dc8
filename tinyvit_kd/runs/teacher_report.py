"""What a dump says of its teacher before the first pass: weights, classes, precision, and what its input costs."""

from __future__ import annotations

from collections.abc import Iterator

from tinyvit_kd.config.models import TeacherConfig
from tinyvit_kd.models.input_size import RESIZING
from tinyvit_kd.models.teacher import Teacher, TeacherFacts
from tinyvit_kd.runs.known_labels import KnownLabels
from tinyvit_kd.runs.opened_network import in_figures

COSTLY = 1.5  # times the pixels of a view, from which on a larger input is pointed out


def teacher_lines(
    config: TeacherConfig, teacher: Teacher, view_size: int, class_list: str | None, labels: KnownLabels
) -> Iterator[str]:
    """The lines that announce a teacher, warnings last.

    Args:
        view_size: S, side of the views, pixels.
        class_list: name of the teacher's class list; None if it is not known.
        labels: of the samples, as far as they are known.
    """
    facts = teacher.facts
    yield (
        f"teacher {facts.name}: weights from {_origin(config)}, {facts.num_classes:,} classes "
        f"({_classes(class_list, teacher)}{_restricted(facts)}), {teacher.precision}, "
        f"input of {facts.image_size} pixels ({_size_origin(config, teacher)}){_resized(view_size, facts.image_size)}, "
        f"mean {in_figures(facts.mean)} ({_origin_of('mean', teacher)}), "
        f"deviation {in_figures(facts.std)} ({_origin_of('std', teacher)})"
    )
    if labels.unknown:
        yield f"how often the teacher is right is not known: {labels.unknown}"
    elif labels.note:
        yield labels.note
    if (times := (facts.image_size / view_size) ** 2) >= COSTLY:
        yield (
            f"the teacher works on {times:.3g} times the pixels of a view: each is enlarged from {view_size} to "
            f"{facts.image_size} pixels, which adds nothing to it. If the network takes smaller images, set "
            f"teacher.image_size to {view_size}; if it needs its own size, larger views (views.size) show it more of "
            "each image for the same work"
        )


def _origin(config: TeacherConfig) -> str:
    weights = "timm's hub" if config.pretrained and config.name is not None else config.origin
    return weights if config.head is None else f"{weights}, head from {config.head}"


def _restricted(facts: TeacherFacts) -> str:
    if facts.restriction is None:
        return ""
    asked = sum(map(len, facts.restriction.members))
    return f", made of {asked:,} of the network's {facts.restriction.num_classes:,}"


def _classes(class_list: str | None, teacher: Teacher) -> str:
    return "no class list" if class_list is None else f"{class_list}, {_origin_of('class_list', teacher)}"


def _origin_of(field: str, teacher: Teacher) -> str:
    return f"from {teacher.said_by.get(field, 'the network itself')}"


def _size_origin(config: TeacherConfig, teacher: Teacher) -> str:
    if config.image_size is not None:
        return "teacher.image_size"
    return f"the network's own, {_origin_of('image_size', teacher)}; teacher.image_size sets another"


def _resized(view_size: int, image_size: int) -> str:
    if view_size == image_size:
        return ", as the views"
    return f", to which views of {view_size} are {'enlarged' if view_size < image_size else 'reduced'} ({RESIZING})"
