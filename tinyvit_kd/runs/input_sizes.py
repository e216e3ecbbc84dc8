"""From a recipe's ``student.image_size`` to the size of each step's images."""

from __future__ import annotations

from tinyvit_kd.config.student import StudentConfig
from tinyvit_kd.models.input_size import RESIZING, resize_views
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.training.input_sizes import InputSizes


def input_sizes(student: StudentConfig, steps_per_epoch: int, normalizer: Normalizer) -> InputSizes:
    """Sizes by step; those of the views where the recipe gives none."""
    if student.image_size is None:
        return InputSizes()
    return InputSizes(
        {epoch * steps_per_epoch: side for epoch, side in student.sizes_by_epoch(0).items()},
        lambda views, side: resize_views(views, side, normalizer.memory_format),
    )


def sizes_told(student: StudentConfig, of_views: int) -> str | None:
    """What a run says of its sizes; None where all are those of the views.

    Args:
        of_views: side of the views, pixels.
    """
    (_, first), *later = student.sizes_by_epoch(of_views).items()
    if first == of_views and not later:
        return None
    grown = "".join(f", {side} from epoch {epoch} on" for epoch, side in later)
    return f"the student's images: {first} pixels{grown}, resized from views of {of_views} ({RESIZING})"
