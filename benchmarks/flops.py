"""Floating point operations: how many a network's training takes, and how many a device can do."""

from __future__ import annotations

import re

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks import random_network

# Dense bfloat16 operations per second, without sparsity, as NVIDIA's data sheets have them. The first that fits counts.
PEAKS = {
    r"\bG?H200\b": 989e12,
    r"\bH100 PCIe\b": 756e12,
    r"\bH100 NVL\b": 835e12,
    r"\bG?H100\b": 989e12,
    r"\bA100\b": 312e12,
    r"\bL40S\b": 362e12,
    r"\bL4\b": 121e12,
}


def training_flops(name: str, num_classes: int, size: int) -> float:
    """Operations of one image's forward and backward pass, two for each multiplication with its addition.

    Only matrix products and convolutions count, attention's among them. The backward pass is taken as twice the forward
    pass, which is counted: of a grouped convolution's backward pass, torch 2.14 counts as many times too much as there
    are groups.
    """
    network = random_network(name, num_classes, size).eval()
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.__dict__["fused_attn"] = False  # the counter does not know all fused kernels
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 3, size, size))
    return float(3 * counter.get_total_flops())


def peak_flops(device_name: str) -> float | None:
    """Dense bfloat16 operations per second of a device; None: not known, or but a part of one (MIG)."""
    fitting = [peak for pattern, peak in PEAKS.items() if re.search(pattern, device_name) and "MIG" not in device_name]
    return fitting[0] if fitting else None


def device_peak(device: torch.device) -> float | None:
    """The same for a device of this process; None on the CPU."""
    return peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
