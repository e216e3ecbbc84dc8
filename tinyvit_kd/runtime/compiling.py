"""``torch.compile``, where this machine can: it needs a compiler, and a folder to keep what it made."""

from __future__ import annotations

import atexit
import subprocess
import sys

import torch
from torch import nn
from torch.nn import functional as F

from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.foreign_errors import first_line_of
from tinyvit_kd.runtime.log import say, say_any_rank


def compile_network(network: nn.Module, job: Job) -> bool:
    """Compile a network in place, so that its state dict keeps its names; every process must call.

    A small function is compiled first. If that fails in one of the processes, a line says why, and the network of all
    of them is left as it is: compiled and other code round differently.

    Returns:
        whether the network is compiled.
    """
    reason = why_not(job.device)
    failed = torch.zeros(job.world_size, dtype=torch.int64)
    failed[job.rank] = reason is not None
    failed = job.sum(failed)
    if failed.any():
        if job.rank == int(failed.argmax()):
            say_any_rank(
                job,
                f"torch.compile does not work here, and the network runs without it: {reason} (it needs a C++ compiler "
                "such as g++, and a folder to write to, TORCHINDUCTOR_CACHE_DIR)",
            )
        return False
    network.compile()
    atexit.register(end_compile_workers)  # which then runs before torch's own
    say(job, "compiling the network: its first batch, in training as in an evaluation, may take minutes")
    return True


def end_compile_workers() -> None:
    """End the processes that torch compiles in, if there are any; nothing of theirs is needed at a program's end.

    torch 2.15 asks them to end and waits for up to 300 s (``SubprocPool.shutdown``); one that hangs would keep a run
    alive that has done all its work.
    """
    async_compile = sys.modules.get("torch._inductor.async_compile")
    for pool in getattr(async_compile, "_pool_set", ()):
        process = getattr(pool, "process", None)
        if isinstance(process, subprocess.Popen):
            process.kill()


def why_not(device: torch.device) -> str | None:
    """What torch says of a function that it cannot compile, forward or backward; None if it can."""
    try:
        with torch.enable_grad():
            values = torch.ones(8, device=device, requires_grad=True)
            torch.autograd.backward(torch.compile(_probe)(values))
    except Exception as error:  # torch, its compilers and the system raise errors of many kinds
        return first_line_of(error)
    return None


def _probe(values: torch.Tensor) -> torch.Tensor:
    return (F.gelu(values) * values).sum()
