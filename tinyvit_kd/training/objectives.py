"""Objectives: from a network's output and a batch to named scalars, of which "loss" is differentiated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from tinyvit_kd.config.training import DistillLossConfig, PlainLossConfig
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.loss import TEACHER_LOSSES, plain_loss
from tinyvit_kd.training.targets import Teachers

# Logits [B, C]; for a network that trains both heads, those of the class token's head and of the distillation token's.
Output = torch.Tensor | tuple[torch.Tensor, torch.Tensor]
Objective = Callable[[Output, Batch], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class DistillObjective:
    """Stage two's objective: ``teacher_share`` × the loss towards the teachers + the rest × the loss towards the label.

    With ``kind: token`` (DeiT, arXiv 2012.12877, section 4), the distillation token's head learns from the teachers and
    the class token's head from the label. With the other kinds, one output learns from both.

    Beside "loss" it reports how often the student's best class is the teachers', and the fraction of holes. Where
    labels are used, it also reports both losses before they are weighted, and the fraction of views without a label.
    """

    config: DistillLossConfig
    teachers: Teachers = field(default_factory=Teachers)

    def __call__(self, output: Output, batch: Batch) -> dict[str, torch.Tensor]:
        # Converted here, where both losses share one copy.
        heads = tuple(logits.float() for logits in (output if isinstance(output, tuple) else (output,)))
        class_logits, teacher_logits = heads[0], heads[-1]
        assert batch.targets is not None
        targets = self.teachers.mean(batch.targets, teacher_logits.shape[1])
        teacher_loss = TEACHER_LOSSES[self.config.kind](teacher_logits, targets, batch.weights, self.config)
        losses = {"loss": teacher_loss}
        if self.config.uses_labels:
            label_loss = self._label_loss(class_logits, batch)
            share = self.config.teacher_share
            losses = {
                "loss": share * teacher_loss + (1 - share) * label_loss,
                "teacher_loss": teacher_loss,
                "label_loss": label_loss,
            }
        agrees = (teacher_logits.argmax(dim=1) == targets.top1) * batch.weights
        left_out = left_out_fractions(batch) if self.config.uses_labels else {"holes": hole_fraction(batch)}
        return {**losses, "agreement": agrees.mean(), **left_out}

    def _label_loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The loss of samples whose label is a class of the head; the others learn from the teachers alone."""
        assert batch.labels is not None
        others, lam = batch.mixed or (batch.labels, None)
        weights = batch.weights * (batch.labels >= 0) * (others >= 0)
        return plain_loss(logits, batch.labels, weights, self.config.label_smoothing, others, lam)


@dataclass(frozen=True)
class PlainObjective:
    """Stage three's objective: cross-entropy to the label.

    Beside "loss" it reports the accuracy on the training views and the fractions of holes and of views without a label.
    """

    config: PlainLossConfig

    def __call__(self, output: Output, batch: Batch) -> dict[str, torch.Tensor]:
        assert isinstance(output, torch.Tensor)
        assert batch.labels is not None
        others, lam = batch.mixed or (None, None)
        loss = plain_loss(output, batch.labels, batch.weights, self.config.label_smoothing, others, lam)
        correct = (output.argmax(dim=1) == batch.labels) * batch.weights
        return {"loss": loss, "accuracy": correct.mean(), **left_out_fractions(batch)}


def hole_fraction(batch: Batch) -> torch.Tensor:
    """Fraction of the views that have weight zero."""
    return (batch.weights == 0).float().mean()


def left_out_fractions(batch: Batch) -> dict[str, torch.Tensor]:
    """Fractions of the views without a label (``unlabelled``), and of the other ones that weigh zero (``holes``).

    A view that is mixed of two samples needs both labels.
    """
    assert batch.labels is not None
    others = batch.labels if batch.mixed is None else batch.mixed.labels
    unlabelled = (batch.labels < 0) | (others < 0)
    holes = (batch.weights == 0) & ~unlabelled
    return {"holes": holes.float().mean(), "unlabelled": unlabelled.float().mean()}
