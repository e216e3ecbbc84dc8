"""What a GPU is told before it computes: TF32, cuDNN's choice of algorithms, determinism."""

from __future__ import annotations

import os
import warnings

import torch

from tinyvit_kd.config.training import RuntimeConfig

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_TWO_BUFFERS = ":4096:8"  # with which cuBLAS gives the same bits each time (docs.nvidia.com/cuda/cublas, section 2.1.4)


def set_environment(runtime: RuntimeConfig) -> None:
    """Set what CUDA's libraries read from the environment when they start; call it before anything is computed."""
    if runtime.deterministic:
        os.environ.setdefault(CUBLAS_WORKSPACE, _TWO_BUFFERS)


def set_switches(runtime: RuntimeConfig) -> None:
    """Set torch's switches for a GPU. They are this process's, and stay.

    torch 2.9 has another interface for TF32 (``fp32_precision``). Whoever reads the older one after that was used gets
    an error, and torch's own compiler reads it; so the older one is used, which torch 2.6 to 2.15 take without a word.
    """
    torch.backends.cuda.matmul.allow_tf32 = runtime.tf32
    torch.backends.cudnn.allow_tf32 = runtime.tf32
    if not runtime.tf32:
        # torch's compiler recommends it. This was decided by whoever wrote the recipe.
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores", category=UserWarning)
    torch.backends.cudnn.benchmark = runtime.cudnn_autotune and not runtime.deterministic
    torch.backends.cudnn.deterministic = runtime.deterministic
    torch.use_deterministic_algorithms(runtime.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # every value is written
