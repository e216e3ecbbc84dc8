"""How near a network comes to the teachers and to the labels: sums of a batch, sample by sample, and their means."""

from __future__ import annotations

import math

import torch
from torch import nn

from tinyvit_kd.contraction.records import Score
from tinyvit_kd.contraction.sample_losses import FEWEST, Losses
from tinyvit_kd.errors import StoreError
from tinyvit_kd.models.head import forward_heads
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.loss import soft_losses
from tinyvit_kd.training.targets import Targets

FIGURES = ("cross_entropy", "agreement", "top1")


def scored_logits(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Images [B, 3, S, S] to float32 logits [B, C] whose softmax is the network's answer.

    Of a network with a distillation token, that is the mean of both heads' softmax (arXiv 2012.12877, section 4).
    """
    logits, by_head = forward_heads(network, images)
    if not by_head:
        return logits.float()
    heads = torch.stack([each.float().log_softmax(dim=1) for each in by_head.values()])
    return heads.logsumexp(dim=0) - math.log(len(heads))


def sums_by_sample(logits: torch.Tensor, batch: Batch, targets: Targets, views: int) -> torch.Tensor:
    """Sums of each of ``FIGURES`` over the views of a sample, and how many views count.

    Holes count nowhere. For top-1 a mixed view has two labels, each with its share; it counts if both are known.

    Args:
        logits: float32 [n · V, C], of n samples.
        targets: of the teachers.
        views: V; those of a sample follow each other.

    Returns:
        float64 [n, 3, 2]: sums, and views that count. Agreement and top-1 are in percent.
    """
    best = logits.argmax(dim=1)
    losses = soft_losses(logits, targets.indices, targets.probs, targets.residual, distinct=targets.distinct)
    correct, labelled = _correct(best, batch)
    values = torch.stack([losses, 100.0 * (best == targets.top1), 100.0 * correct]).double()
    weights = torch.stack([batch.weights, batch.weights, batch.weights * labelled]).double()
    values = torch.where(weights > 0, values, 0) * weights  # whatever a network says of a hole
    return torch.stack([values, weights], dim=-1).view(len(FIGURES), -1, views, 2).sum(dim=2).transpose(0, 1)


def _correct(best: torch.Tensor, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """How far the best classes are the labels, from 0 to 1, and whether labels are known: [B] each."""
    if batch.labels is None:
        return torch.zeros_like(batch.weights), torch.zeros_like(batch.weights)
    own, labelled = (best == batch.labels).float(), batch.labels >= 0
    if batch.mixed is None:
        return own, labelled
    others, lam = batch.mixed
    return lam * own + (1 - lam) * (best == others), labelled & (others >= 0)


def losses_of(sums: torch.Tensor) -> Losses:
    """The cross-entropy of each sample, the mean over its views that count; NaN of a sample without any.

    Args:
        sums: float64 [N, 3, 2], as ``sums_by_sample`` gives them.

    Returns:
        float32 [N], whose mean without NaN is that of the score.
    """
    values, weights = sums[:, FIGURES.index("cross_entropy")].cpu().unbind(dim=1)
    losses: Losses = torch.where(weights > 0, values / weights, torch.nan).float().numpy()
    return losses


def score_of(sums: torch.Tensor, steps: int, seed: int, where: str) -> Score:
    """The means over samples, each of which is the mean over its views that count.

    Args:
        sums: float64 [N, 3, 2], as ``sums_by_sample`` gives them, of all held-out samples.
        where: the store, for messages.

    Raises:
        StoreError: fewer than two samples count, because the others are holes.
    """
    means: dict[str, float] = {}
    errors: dict[str, float] = {}
    counts: dict[str, int] = {}
    for name, (values, weights) in zip(FIGURES, sums.cpu().permute(1, 2, 0), strict=True):
        of_samples = values[weights > 0] / weights[weights > 0]
        counts[name] = len(of_samples)
        if len(of_samples) >= FEWEST:
            means[name] = of_samples.mean().item()
            errors[name] = of_samples.std().item() / math.sqrt(len(of_samples))
    if "cross_entropy" not in means:
        raise StoreError(
            "too few held-out samples can be scored",
            where=where,
            found=f"{counts['cross_entropy']} of {len(sums)}; the others are holes",
            expected=f"at least {FEWEST}",
            fix="raise proxy.held_out, or hold out other shards by another schedule.seed",
        )
    return Score(
        cross_entropy=means["cross_entropy"],
        agreement=means["agreement"],
        top1=means.get("top1"),
        errors=errors,
        samples=counts["cross_entropy"],
        steps=steps,
        seed=seed,
    )
