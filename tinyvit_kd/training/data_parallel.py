"""A network whose gradients are averaged over processes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.foreign_errors import first_line_of, ignore_stride_warning, is_lost_peer

_NAMED = 3  # parameters in an error's text


def data_parallel(model: nn.Module, job: Job, compression: str = "none", static_graph: bool = False) -> nn.Module:
    """The network, averaging its gradients over the processes of a job; itself if there is one process.

    Args:
        compression: ``none``, or ``bfloat16`` to send gradients as bfloat16; they are kept as they are.
        static_graph: whether torch may learn in the first step in which order gradients come, and rely on it.

    Raises:
        ConfigError: what connects the processes cannot add bfloat16.
    """
    if job.world_size == 1:
        return model
    if compression == "bfloat16":
        _require_bfloat16(job)
    ignore_stride_warning()
    job.barrier()  # some may have read their checkpoint, or built their network, long before others
    with warnings.catch_warnings():
        # torch 2.15 has another argument for this, which torch 2.6 does not know and which would still sync at first.
        warnings.simplefilter("ignore", FutureWarning)
        # Each rank keeps its own batch norm statistics; they are averaged before they are used.
        parallel = DistributedDataParallel(
            model, broadcast_buffers=False, gradient_as_bucket_view=True, static_graph=static_graph
        )
    if compression == "bfloat16":
        parallel.register_comm_hook(None, bf16_compress_hook)
    return parallel


@contextmanager
def gradient_sync(forward: nn.Module, last: bool) -> Iterator[None]:
    """Put this around each micro-batch: gradients are averaged after the last one alone.

    Raises:
        ConfigError: there are several processes, and some parameters got no gradient from the last micro-batch: torch
            would wait for them.
    """
    if not isinstance(forward, DistributedDataParallel):
        yield
    elif not last:
        with forward.no_sync():
            yield
    else:
        yield
        _require_gradients(forward.module)


def _require_gradients(model: nn.Module) -> None:
    unused = [name for name, each in model.named_parameters() if each.requires_grad and each.grad is None]
    if unused:
        raise ConfigError(
            "several processes cannot average gradients of parameters that the loss does not depend on",
            where="student",
            found=", ".join(unused[:_NAMED]) + (f" and {len(unused) - _NAMED} more" if len(unused) > _NAMED else ""),
            fix="train it in one process, or take a student all of whose parameters are used",
        )


def _require_bfloat16(job: Job) -> None:
    try:
        dist.all_reduce(torch.ones(1, dtype=torch.bfloat16, device=job.device))
    except RuntimeError as error:
        if is_lost_peer(error):
            raise
        raise ConfigError(
            "the processes cannot send gradients as bfloat16",
            where="runtime.gradient_compression",
            found=f"{first_line_of(error)} ({dist.get_backend()}, torch {torch.__version__})",
            fix="set runtime.gradient_compression to none",
        ) from error
