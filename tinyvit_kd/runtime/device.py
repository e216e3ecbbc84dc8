"""Devices, and the precision and memory format that networks have on them."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn


def resolve_precision(device: torch.device, precision: str) -> str:
    """``auto`` is bfloat16 on CUDA and float32 elsewhere."""
    if precision != "auto":
        return precision
    return "bfloat16" if device.type == "cuda" else "float32"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """bfloat16 autocast where asked for, or by default on CUDA; float32 otherwise."""
    enabled = resolve_precision(device, precision) == "bfloat16"
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def move_to_device(network: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """The network on its device, in the memory format that its input will have."""
    network.to(device)
    if channels_last and device.type == "cuda":
        network.to(memory_format=torch.channels_last)
    return network
