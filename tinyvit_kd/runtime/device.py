"""The precision and memory format of networks on a device."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn


def resolve_precision(device: torch.device, precision: str, *, trains: bool) -> str:
    """The precision that a recipe's value means on a device: float32, bfloat16 or float16.

    ``auto`` is float32 on the CPU. On CUDA it is bfloat16 where a network trains, whose gradients float16 cannot hold
    without scaling the loss; teachers and evaluations are in float16, as in the official code: the answers are nearer
    to those of float32 by a factor of fifty.
    """
    if precision != "auto":
        return precision
    if device.type != "cuda":
        return "float32"
    return "bfloat16" if trains else "float16"


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """A context in which a network runs in a precision, as ``resolve_precision`` gives it."""
    lower = {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(precision)
    return torch.autocast(device.type, dtype=lower or torch.bfloat16, enabled=lower is not None)


def move_to_device(network: nn.Module, device: torch.device, channels_last: bool) -> nn.Module:
    """Move a network to a device, in the memory format that its input will have; returns the network."""
    network.to(device)
    if channels_last and device.type == "cuda":
        network.to(memory_format=torch.channels_last)
    return network


def seed_torch(seed: int, device: torch.device) -> None:
    """Seed torch's generators of the CPU and of a device.

    ``torch.manual_seed`` seeds every kind of device that torch knows; for those that are not in use it notes where it
    was called from, and looks up each source file of the call stack on the disk: 26 files for a training step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)
