"""Objectives: from a network's output and a batch to named scalars, of which "loss" is differentiated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from tinyvit_kd.config.training import DistillLossConfig, PlainLossConfig
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.loss import plain_loss, soft_loss
from tinyvit_kd.training.targets import Targets, Teachers

# Logits [B, C]; of a network that trains two heads apart those of both, the class token's first.
Output = torch.Tensor | tuple[torch.Tensor, torch.Tensor]
Objective = Callable[[Output, Batch], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class DistillObjective:
    """Stage two's: ``teacher_share`` of the loss to what the teachers said, the rest to the label.

    With ``kind: token`` (DeiT, arXiv 2012.12877, section 4) the distillation token's head has the first part, the
    class token's the second; with the others both parts are the one output's.

    Beside the loss: how often the student's best class is the teachers', and the share of holes; where labels have a
    part, both parts before they are weighted.
    """

    config: DistillLossConfig
    teachers: Teachers = field(default_factory=Teachers)

    def __call__(self, output: Output, batch: Batch) -> dict[str, torch.Tensor]:
        class_logits, teacher_logits = output if isinstance(output, tuple) else (output, output)
        assert batch.targets is not None
        targets = self.teachers.mean(batch.targets, teacher_logits.shape[1])
        loss = teacher_loss = self._teacher_loss(teacher_logits, targets, batch)
        parts = {}
        if self.config.uses_labels:
            label_loss, share = self._label_loss(class_logits, batch), self.config.teacher_share
            loss = share * teacher_loss + (1 - share) * label_loss
            parts = {"teacher_loss": teacher_loss, "label_loss": label_loss}
        agrees = (teacher_logits.argmax(dim=1) == targets.top1) * batch.weights
        return {"loss": loss, **parts, "agreement": agrees.mean(), "holes": holes(batch)}

    def _teacher_loss(self, logits: torch.Tensor, targets: Targets, batch: Batch) -> torch.Tensor:
        if self.config.kind != "soft":
            return plain_loss(logits, targets.top1, batch.weights)
        parts = targets.indices, targets.probs, targets.residual
        return soft_loss(logits, *parts, batch.weights, self.config.temperature, targets.distinct)

    def _label_loss(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Of the samples that have a label that the head has a class for; the others learn from the teacher alone."""
        assert batch.labels is not None
        others, lam = batch.mixed or (batch.labels, None)
        weights = batch.weights * (batch.labels >= 0) * (others >= 0)
        return plain_loss(logits, batch.labels, weights, self.config.label_smoothing, others, lam)


@dataclass(frozen=True)
class PlainObjective:
    """Stage three's: cross-entropy to the label, the accuracy on the training views, and the share of holes."""

    config: PlainLossConfig

    def __call__(self, output: Output, batch: Batch) -> dict[str, torch.Tensor]:
        assert isinstance(output, torch.Tensor)
        assert batch.labels is not None
        others, lam = batch.mixed or (None, None)
        loss = plain_loss(output, batch.labels, batch.weights, self.config.label_smoothing, others, lam)
        correct = (output.argmax(dim=1) == batch.labels) * batch.weights
        return {"loss": loss, "accuracy": correct.mean(), "holes": holes(batch)}


def holes(batch: Batch) -> torch.Tensor:
    """The share of samples without weight."""
    return (batch.weights == 0).float().mean()
