"""What checkpoints take on the disk, before there are any."""

from __future__ import annotations

from torch import nn

from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.training.optimizer_state import state_bytes


def checkpoint_bytes(config: TrainingConfig, network: nn.Module) -> int:
    """Size of one checkpoint, bytes: weights, the optimiser's moments and, if there is one, the average."""
    weights: int = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return weights * (1 if config.train.ema_decay is None else 2) + state_bytes(network, config.optim)


def checkpoints_bytes(config: TrainingConfig, network: nn.Module) -> int:
    """Size of the checkpoints that are kept, and of one more, which is written before the oldest is removed."""
    return (config.train.keep_checkpoints + 1) * checkpoint_bytes(config, network)
