"""Learning rates: scaled to the global batch, warmed up, then along a cosine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from timm.scheduler import CosineLRScheduler

from tinyvit_kd.config.optim import OptimConfig


@dataclass(frozen=True)
class Rates:
    """Learning rates after scaling to the global batch."""

    peak: float
    warmup: float
    minimum: float


def scaled_rates(config: OptimConfig, global_batch_size: int) -> Rates:
    """The three rates × global batch / ``lr_batch`` (linear scaling, arXiv 1706.02677)."""
    scale = global_batch_size / config.lr_batch
    return Rates(config.base_lr * scale, config.warmup_lr * scale, config.min_lr * scale)


def build_scheduler(
    optimizer: torch.optim.Optimizer,
    config: OptimConfig,
    total_steps: int,
    warmup_steps: int,
    global_batch_size: int,
) -> CosineLRScheduler:
    """Linear warm-up, then a cosine to the minimum; ``step_update(t)`` sets the rates of step t, from 0.

    As in the official code, the warm-up replaces the first ``warmup_steps`` steps of the cosine; it does not shift it.
    """
    rates = scaled_rates(config, global_batch_size)
    return CosineLRScheduler(
        optimizer,
        t_initial=total_steps,
        lr_min=rates.minimum,
        warmup_lr_init=rates.warmup,
        warmup_t=warmup_steps,
        cycle_limit=1,
        t_in_epochs=False,
    )
