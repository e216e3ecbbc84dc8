"""Losses as functions of tensors, all divided by the batch size B.

Holes count in B and have weight zero. So a sample's gradient does not depend on how many holes its rank happened to
have in the batch.

To add a loss towards the teacher: a function here, a row of ``TEACHER_LOSSES``, and its name among those of
``loss.kind`` (``config.training``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch.nn import functional as F

from tinyvit_kd.config.training import DistillLossConfig
from tinyvit_kd.training.targets import Targets


def soft_loss(
    student_logits: torch.Tensor,
    indices: torch.Tensor,
    probs: torch.Tensor,
    residual: torch.Tensor,
    weights: torch.Tensor,
    temperature: float = 1.0,
    distinct: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy of the student to the recovered teacher distribution (arXiv 2207.10666, section 3.1).

    The teacher's mass outside its K stored classes is spread evenly over the other C - K. No [B, C] target is
    built: with q the student's softmax, -Σ p log q = (Σ p) logsumexp(z) - Σ_k p_k z_k - t (Σ_c z_c - Σ_k z_k),
    where t is the probability of each class that was not stored.

    Args:
        student_logits: z, [B, C].
        indices: stored classes, int64 [B, K], each once.
        probs: their probabilities, [B, K].
        residual: mass of the other classes, [B]; clamped at zero.
        weights: per sample, [B]; zero for holes.
        temperature: τ; both distributions are softened, and the loss is scaled by τ² (Hinton et al., 2015).
        distinct: bool [B, K], False where a class is repeated and must be ignored; None: all True.

    Returns:
        a scalar: the Kullback-Leibler divergence plus the teacher's entropy, which has no gradient.
    """
    losses = soft_losses(student_logits, indices, probs, residual, temperature, distinct)
    return (losses * weights).sum() * (temperature**2 / len(weights))


def soft_losses(
    student_logits: torch.Tensor,
    indices: torch.Tensor,
    probs: torch.Tensor,
    residual: torch.Tensor,
    temperature: float = 1.0,
    distinct: torch.Tensor | None = None,
) -> torch.Tensor:
    """``soft_loss`` sample by sample, [B], before weights and the factor τ²; a hole's is any finite number."""
    logits = student_logits.float()
    # The view costs nothing. Its gradient is added up apart, as that of the quotient: in one order, so to the same sum.
    logits = logits.view_as(logits) if temperature == 1 else logits / temperature
    stored = logits.gather(1, indices)
    absent = torch.full_like(residual, logits.shape[1] - indices.shape[1])
    if distinct is not None:
        stored = stored * distinct
        absent = absent + (~distinct).sum(dim=1)
    probs, tail = _recover(probs.float(), residual.float(), absent, temperature)
    others = logits.sum(dim=1) - stored.sum(dim=1)
    mass = probs.sum(dim=1) + tail * absent
    return mass * logits.logsumexp(dim=1) - (probs * stored).sum(dim=1) - tail * others


def plain_loss(
    student_logits: torch.Tensor,
    labels: torch.Tensor,
    weights: torch.Tensor,
    smoothing: float = 0.0,
    partner_labels: torch.Tensor | None = None,
    lam: torch.Tensor | None = None,
) -> torch.Tensor:
    """Cross-entropy to the label, with label smoothing, and with mixed labels where views are mixed.

    Args:
        student_logits: [B, C].
        labels: int64 [B]; any value where the weight is zero.
        weights: per sample, [B]; zero for holes.
        smoothing: mass spread evenly over all C classes.
        partner_labels: int64 [B], labels of the samples that were mixed in.
        lam: λ, [B], weight of ``labels``; 1 where a view is not mixed.

    Returns:
        a scalar.
    """
    logits = student_logits.float()
    losses = _cross_entropy(logits, labels, smoothing)
    if partner_labels is not None and lam is not None:
        losses = lam * losses + (1 - lam) * _cross_entropy(logits, partner_labels, smoothing)
    return (losses * weights).sum() / len(weights)


# Student logits [B, C], the teachers' targets, weights [B] and the recipe's section to a scalar.
TeacherLoss = Callable[[torch.Tensor, Targets, torch.Tensor, DistillLossConfig], torch.Tensor]


def soft_teacher_loss(
    logits: torch.Tensor, targets: Targets, weights: torch.Tensor, config: DistillLossConfig
) -> torch.Tensor:
    """Cross-entropy to the teachers' distribution, at the recipe's temperature."""
    sparse = targets.indices, targets.probs, targets.residual
    return soft_loss(logits, *sparse, weights, config.temperature, targets.distinct)


def hard_teacher_loss(
    logits: torch.Tensor, targets: Targets, weights: torch.Tensor, config: DistillLossConfig
) -> torch.Tensor:
    """Cross-entropy to the teachers' best class."""
    del config
    return plain_loss(logits, targets.top1, weights)


TEACHER_LOSSES: Mapping[str, TeacherLoss] = {
    "soft": soft_teacher_loss,
    "hard": hard_teacher_loss,
    "token": hard_teacher_loss,  # for the distillation token's head alone
}
"""The loss towards the teacher, by ``loss.kind``."""


def _cross_entropy(logits: torch.Tensor, labels: torch.Tensor, smoothing: float) -> torch.Tensor:
    return F.cross_entropy(logits, labels.clamp(min=0), label_smoothing=smoothing, reduction="none")


def _recover(
    probs: torch.Tensor, residual: torch.Tensor, absent: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stored probabilities [B, K] and the probability [B] of each of the ``absent`` [B] others, at a temperature."""
    tail = residual.clamp(min=0) / absent.clamp(min=1) * (absent > 0)
    if temperature == 1:
        return probs, tail
    probs, tail = probs ** (1 / temperature), tail ** (1 / temperature)
    total = probs.sum(dim=1) + tail * absent
    return probs / total.unsqueeze(1).clamp(min=1e-30), tail / total.clamp(min=1e-30)
