"""The precision and memory format of networks on a device."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn


def resolve_precision(device: torch.device, precision: str) -> str:
    """The precision that a recipe's value means: ``auto`` is bfloat16 on CUDA and float32 elsewhere."""
    if precision != "auto":
        return precision
    return "bfloat16" if device.type == "cuda" else "float32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """A context in which a network runs in bfloat16 autocast, if that is the precision, or else in float32."""
    enabled = resolve_precision(device, precision) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def move_to_device(network: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """Move a network to a device, in the memory format that its input will have; returns the network."""
    network.to(device)
    if channels_last and device.type == "cuda":
        network.to(memory_format=torch.channels_last)
    return network
