"""timm's ``LogitDistillationTask``, or the same computation with a timm that has none (before 1.0.23)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class LogitTask(nn.Module):
    """The part of timm's task that is timed: the teacher's answer, and the divergence of the student's from it.

    Args:
        student: trained.
        teacher: sees the images that the student sees, in evaluation mode.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        super().__init__()
        self.student, self.teacher = student, teacher

    def train(self, mode: bool = True) -> LogitTask:
        """The teacher stays in evaluation mode."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        """Images [B, 3, S, S] and labels [B], of which the loss with weight zero is computed, as timm's does."""
        logits = self.student(images)
        task_loss = F.cross_entropy(logits, labels)
        with torch.no_grad():
            teacher_logits = self.teacher(images)
        told, found = (each.log_softmax(dim=-1) for each in (teacher_logits, logits))
        return {"loss": 0.0 * task_loss + F.kl_div(found, told, reduction="batchmean", log_target=True)}


def logit_task(student: nn.Module, teacher: nn.Module, device: torch.device) -> nn.Module:
    """Distillation from the teacher's logits alone, in training mode."""
    teacher.requires_grad_(False)
    try:
        from timm.task import LogitDistillationTask
    except ImportError:
        return LogitTask(student, teacher).train()
    task: nn.Module = LogitDistillationTask(
        student,
        teacher,
        criterion=nn.CrossEntropyLoss(),
        task_loss_weight=0.0,  # the other term is that of the teacher
        device=device,
        verbose=False,
    )
    return task.train()
