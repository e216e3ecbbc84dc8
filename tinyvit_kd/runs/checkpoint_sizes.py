"""What checkpoints take on the disk, before there are any."""

from __future__ import annotations

from torch import nn

from tinyvit_kd.config.training import TrainConfig


def checkpoint_bytes(config: TrainConfig, network: nn.Module) -> int:
    """Size of one checkpoint at most, bytes: weights, the optimiser's two moments and, if there is one, the average."""
    weights: int = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
    return weights * (3 if config.ema_decay is None else 4)


def checkpoints_bytes(config: TrainConfig, network: nn.Module) -> int:
    """Size of the checkpoints that are kept, and of one more, which is written before the oldest is removed."""
    return (config.keep_checkpoints + 1) * checkpoint_bytes(config, network)
