"""The processes of one job. One process is world size 1, not another branch."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from tinyvit_kd.errors import ConfigError, TinyVitKdError, WorkerError
from tinyvit_kd.runtime.foreign_errors import first_line_of, is_lost_peer

INDEXING_TIMEOUT = timedelta(hours=12)  # how long other ranks wait while rank 0 indexes shards
# How long a collective operation may take. torchrun notices a process that dies, this a machine that dies.
STEP_TIMEOUT = timedelta(minutes=30)
# How long a process waits for the others at the start: torchrun starts all at once, and may be killed meanwhile.
MEETING_TIMEOUT = timedelta(minutes=5)


@dataclass(frozen=True)
class Job:
    """This process's place among its peers, and the device it computes on."""

    rank: int
    world_size: int
    device: torch.device
    control: dist.ProcessGroup | None = None
    store: Store | None = None
    _names: Iterator[int] = field(default_factory=itertools.count)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that logs, evaluates tables and writes shared files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.control is not None:
            dist.barrier(group=self.control)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Rank 0 does what is in the context, however long it takes; the others do it after that."""
        name = f"main-first-{next(self._names)}"
        if self.store is not None and not self.is_main:
            self.store.wait([name], INDEXING_TIMEOUT)
        yield
        if self.store is not None and self.is_main:
            self.store.set(name, "done")

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Sum of a tensor over all processes, on the CPU (synchronises with the device)."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def min(self, values: torch.Tensor) -> torch.Tensor:
        """Smallest value over all processes, on the CPU (synchronises with the device)."""
        return self._reduce(values, dist.ReduceOp.MIN)

    def _reduce(self, values: torch.Tensor, operation: dist.ReduceOp.RedOpType) -> torch.Tensor:
        reduced = values.detach().to("cpu", copy=True)
        if self.control is not None:
            dist.all_reduce(reduced, operation, group=self.control)
        return reduced

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value of a small picklable object of our own (never of file content)."""
        box = [value]
        if self.control is not None:
            dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def counter(self) -> Iterator[int]:
        """Numbers from 0 on, each given to one process of the job; every process must call, in the same order."""
        name = f"counter-{next(self._names)}"
        if self.store is None:
            return itertools.count()
        return (_add(self.store, name) - 1 for _ in itertools.count())

    def gather(self, value: Any) -> list[Any]:
        """A small picklable object of our own from every process, in the order of ranks; every process must call."""
        if self.control is None:
            return [value]
        values = [None] * self.world_size
        dist.all_gather_object(values, value, group=self.control)
        return values


def _add(store: Store, name: str) -> int:
    try:
        return int(store.add(name, 1))
    except dist.DistError as error:
        raise WorkerError(
            "torchrun, or the process that keeps the job's counters, is gone",
            found=first_line_of(error),
            fix="run the same command again: it makes what is missing",
        ) from None


def solo_job() -> Job:
    """A job of one process on the CPU, for commands that are no stage."""
    return Job(0, 1, torch.device("cpu"))


@contextmanager
def start_job(device: str = "auto", threads: int | None = None) -> Iterator[Job]:
    """Join the processes that torchrun started, or be the only one.

    NCCL carries gradients between GPUs; a gloo group beside it carries small control messages over the CPU, so
    that those never synchronise with a device.

    Args:
        device: auto, cpu or cuda.
        threads: computing threads on the CPU; None leaves torch's choice.

    Raises:
        ConfigError: if CUDA is asked for and there is none.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    rank = int(os.environ.get("RANK", 0))
    chosen = _device(device, int(os.environ.get("LOCAL_RANK", 0)))
    if "RANK" not in os.environ or world_size == 1:
        yield Job(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    _join("nccl" if chosen.type == "cuda" else "gloo", rank, world_size)
    control = dist.new_group(backend="gloo", timeout=STEP_TIMEOUT)
    assert isinstance(control, dist.ProcessGroup), "this process is a member"
    shared = PrefixStore("tinyvit_kd", dist.distributed_c10d._get_default_store())
    with _reporting_lost_peers():
        yield Job(rank, world_size, chosen, control, shared)
    # Not after an error: shutting down may wait for peers, and the message must not.
    dist.destroy_process_group()


def _join(backend: str, rank: int, world_size: int) -> None:
    """As ``init_process_group``, but with a shorter timeout until all processes have met."""
    store, rank, world_size = next(rendezvous("env://", rank, world_size, timeout=MEETING_TIMEOUT))
    dist.init_process_group(backend, store=store, rank=rank, world_size=world_size, timeout=STEP_TIMEOUT)


@contextmanager
def _reporting_lost_peers() -> Iterator[None]:
    """Report a lost process in a paragraph; torchrun, or the process itself, has said why."""
    try:
        yield
    except TinyVitKdError:
        raise
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise WorkerError(
            "another process of this job is gone, or did not answer",
            found=first_line_of(error),
            fix="run the same command again: it continues where it stopped",
        ) from error


def _device(name: str, local_rank: int) -> torch.device:
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ConfigError(
            "no CUDA device is available",
            where="runtime.device",
            found="cuda",
            fix="set runtime.device to auto or cpu, or install a CUDA build of torch on a machine with a GPU",
        )
    if name == "cpu" or not available:
        return torch.device("cpu")
    if local_rank >= torch.cuda.device_count():
        raise ConfigError(
            "there are more processes on this machine than GPUs",
            found=f"local rank {local_rank}, {torch.cuda.device_count()} GPUs",
            fix="start torchrun with --nproc_per_node of at most the number of GPUs",
        )
    return torch.device("cuda", local_rank)
