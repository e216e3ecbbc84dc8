"""The norm of a gradient, and its limit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def gradient_norm(parameters: Sequence[nn.Parameter], limit: float | None) -> torch.Tensor:
    """The global norm of a gradient before it is scaled down to a limit, without waiting for the device.

    It is needed even without a limit: an infinite gradient under a finite loss must not reach a checkpoint. But then
    gradients are read once, and not written.

    Args:
        parameters: those without a gradient count nothing.
        limit: None: the gradient stays as it is.

    Returns:
        a scalar on the device.
    """
    if limit is not None:
        return nn.utils.clip_grad_norm_(parameters, limit)
    return nn.utils.get_total_norm([each.grad for each in parameters if each.grad is not None])
