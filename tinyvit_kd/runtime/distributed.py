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
from torch._C._distributed_c10d import Store

from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.errors import ConfigError, TinyVitKdError, WorkerError
from tinyvit_kd.runtime.allocator import keep_freed_memory
from tinyvit_kd.runtime.device_switches import set_environment, set_switches
from tinyvit_kd.runtime.foreign_errors import is_lost_peer, what_a_peer_did
from tinyvit_kd.runtime.launch import place_in_job
from tinyvit_kd.runtime.meeting import join

INDEXING_TIMEOUT = timedelta(hours=12)  # how long other ranks wait while rank 0 indexes shards
# How long a collective operation may take. torchrun notices a process that dies, this a machine that dies.
STEP_TIMEOUT = timedelta(minutes=30)


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

    @property
    def is_first_here(self) -> bool:
        """Whether this is the first of the job's processes on its machine, as torchrun counts them."""
        return self.world_size == 1 or os.environ.get("LOCAL_RANK", "0") == "0"

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
            found=what_a_peer_did(error),
            fix="run the same command again: it makes what is missing",
        ) from None


def solo_job() -> Job:
    """A job of one process on the CPU, for commands that are no stage."""
    return Job(0, 1, torch.device("cpu"))


@contextmanager
def start_job(
    device: str = "auto",
    threads: int | None = None,
    independent: bool = False,
    runtime: RuntimeConfig | None = None,
) -> Iterator[Job]:
    """Join the processes that torchrun started, or be the only one.

    NCCL carries gradients between GPUs; a gloo group beside it carries small control messages over the CPU, so
    that those never synchronise with a device.

    Args:
        device: auto, cpu or cuda.
        threads: computing threads on the CPU; None leaves torch's choice.
        independent: this process has work of its own, whatever other tasks of srun or mpirun do.
        runtime: whose switches a GPU gets; None: the defaults.

    Raises:
        ConfigError: CUDA is asked for and there is none, or the environment is that of a job, and contradicts itself.
        WorkerError: the other processes did not come.
    """
    place = place_in_job(os.environ, independent)
    if threads is not None:
        torch.set_num_threads(threads)
    runtime = runtime or RuntimeConfig()
    set_environment(runtime)  # before anything asks for a GPU
    chosen = _device(device, place.local_rank)
    if chosen.type == "cuda":
        set_switches(runtime)
    else:
        keep_freed_memory()
    if place.world_size == 1:
        yield Job(0, 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    with _reporting_lost_peers():
        shared = join("nccl" if chosen.type == "cuda" else "gloo", place.rank, place.world_size, STEP_TIMEOUT)
        control = dist.new_group(backend="gloo", timeout=STEP_TIMEOUT)
        assert isinstance(control, dist.ProcessGroup), "this process is a member"
        yield Job(place.rank, place.world_size, chosen, control, shared)
    # Not after an error: shutting down may wait for peers, and the message must not.
    dist.destroy_process_group()


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
            found=what_a_peer_did(error),
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
