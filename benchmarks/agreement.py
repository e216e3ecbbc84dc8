"""How near a teacher's answers are to those that it gives in float32."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

MEAN_BEST = 0.7  # mean probability of the best class that random teachers are given; trained ones have about as much
LARGEST_SCALE = 2.0**40


class Agreement(NamedTuple):
    """What became of the probabilities.

    Attributes:
        max_difference: of a probability among the reference's K largest, over all views.
        mean_difference: the same, in the mean.
        kl: Kullback-Leibler divergence from the reference, over all classes, the views' mean.
        top1_kept: share of the views whose best class is the reference's.
    """

    max_difference: float
    mean_difference: float
    kl: float
    top1_kept: float


def agreement(logits: torch.Tensor, reference: torch.Tensor, k: int) -> Agreement:
    """Compare logits [B, C] with the reference's [B, C]."""
    found, true = (each.double().log_softmax(dim=1) for each in (logits, reference))
    best = true.topk(k, dim=1).indices
    differences = (found.gather(1, best).exp() - true.gather(1, best).exp()).abs()
    return Agreement(
        max_difference=differences.max().item(),
        mean_difference=differences.mean().item(),
        kl=(true.exp() * (true - found)).sum(dim=1).mean().item(),
        top1_kept=(found.argmax(dim=1) == true.argmax(dim=1)).double().mean().item(),
    )


def spreading_scale(logits: torch.Tensor, mean_best: float = MEAN_BEST) -> float:
    """The factor on logits [B, C] with which the best class has that probability in the mean."""
    low, high = 1.0, LARGEST_SCALE
    centred = logits.double() - logits.double().mean(dim=1, keepdim=True)
    for _ in range(60):
        middle = math.sqrt(low * high)
        best = (centred * middle).softmax(dim=1).amax(dim=1).mean().item()
        low, high = (middle, high) if best < mean_best else (low, middle)
    return math.sqrt(low * high)


def scale_head(network: nn.Module, factor: float) -> None:
    """Multiply a timm network's logits by a factor."""
    head = network.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        for parameter in head.parameters():
            parameter *= factor
