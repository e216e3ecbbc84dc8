"""The one line that says how a GPU is used."""

from __future__ import annotations

import torch
from torch import nn

from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.log import say


def say_device(compiler: Compiler, network: nn.Module, precision: str) -> None:
    """Print the one line about a GPU, once it is known whether the network is compiled; none on the CPU."""
    device = compiler.job.device
    if device.type == "cuda":
        say(compiler.job, device_line(torch.cuda.get_device_name(device), compiler, network, precision))


def device_line(name: str, compiler: Compiler, network: nn.Module, precision: str) -> str:
    """What is in force, as read back from torch: ``NVIDIA H200: bfloat16, compiled, channels last, TF32 off, …``.

    Args:
        name: the GPU's.
        precision: float32, bfloat16 or float16.
    """
    cudnn = torch.backends.cudnn
    tf32 = {(True, True): "on", (False, False): "off"}.get((torch.backends.cuda.matmul.allow_tf32, cudnn.allow_tf32))
    parts = [
        precision,
        compiler.told,
        "channels last" if is_channels_last(network) else "channels first",
        f"TF32 {tf32 or 'half on'}",
        "cuDNN autotuned" if cudnn.benchmark else "cuDNN not autotuned",
        "deterministic" if torch.are_deterministic_algorithms_enabled() else "not deterministic",
    ]
    return f"{name}: {', '.join(parts)}"


def is_channels_last(network: nn.Module) -> bool:
    """Whether a network's convolutions have the channels-last memory format."""
    return any(
        parameter.is_contiguous(memory_format=torch.channels_last) and not parameter.is_contiguous()
        for parameter in network.parameters()
        if parameter.ndim == 4
    )
