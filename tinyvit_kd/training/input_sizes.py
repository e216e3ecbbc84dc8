"""Side of a student's input where it is another than that of the views, from which step on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch


@dataclass(frozen=True)
class InputSizes:
    """Resizes views to the size of a step; by default, leaves them alone.

    A size follows from the number of the step alone, so a run that goes on has it, too.

    Attributes:
        by_step: sides in pixels, by the first step that has them, ascending from 0; empty: that of the views.
        resize: uint8 views [B, 3, S, S] and another side T to float32 [B, 3, T, T] with levels 0..255.
    """

    by_step: dict[int, int] = field(default_factory=dict)
    resize: Callable[[torch.Tensor, int], torch.Tensor] = lambda views, _: views

    def at(self, step: int) -> int:
        """The side of a step's input, pixels; 0: that of the views."""
        return next((side for first, side in reversed(self.by_step.items()) if first <= step), 0)

    def __call__(self, views: torch.Tensor, step: int) -> torch.Tensor:
        """Views of a step at its size: themselves, bytes as they are, where they have it already."""
        side = self.at(step)
        return views if side in (0, views.shape[-1]) else self.resize(views, side)
