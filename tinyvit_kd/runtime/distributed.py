"""The processes of one job. One process is world size 1, not another branch."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import Store

from tinyvit_kd.config.training import RuntimeConfig, ScheduleConfig
from tinyvit_kd.errors import ConfigError, TinyVitKdError, WorkerError
from tinyvit_kd.runtime.allocator import keep_freed_memory
from tinyvit_kd.runtime.device_switches import set_environment, set_switches
from tinyvit_kd.runtime.foreign_errors import is_lost_peer, what_a_peer_did
from tinyvit_kd.runtime.launch import Place, place_in_job, working_processes
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.meeting import Meeting, await_key, meet
from tinyvit_kd.runtime.peer_watch import watching
from tinyvit_kd.runtime.peers import Silence, Watch, lost_peer
from tinyvit_kd.runtime.wording import counted

# How long processes wait for one that is at work, indexing shards for example. One that is gone ends the wait at once.
WORK_TIMEOUT = timedelta(hours=12)
# How long a collective operation may take at least; what is known to take longer is waited for before it.
STEP_TIMEOUT = timedelta(minutes=30)
_LOOK_EVERY = 1.0  # seconds between looks of a process that stands by
_LEAVING = "leaving"  # the key that counts the processes that need the store no more
_LAST_LOOKS = 5.0  # seconds in which rank 0 lets them look; less than ``peers.LEAVING``
_DONE = "done"  # the key that tells them


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

    def new_name(self, purpose: str) -> str:
        """A key of ``store`` that nothing else has; every process must call, in the same order."""
        return f"{purpose}-{next(self._names)}"

    def barrier(self) -> None:
        """Wait until every process is here, however long their work before this has taken."""
        name = self.new_name("barrier")
        if self.store is None:
            return
        if int(self.store.add(name, 1)) == self.world_size:
            self.store.set(f"{name}-all", "here")
        _await(self.store, f"{name}-all")

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Rank 0 does what is in the context, however long it takes; the others do it after that."""
        name = self.new_name("main-first")
        if self.store is not None and not self.is_main:
            _await(self.store, name)
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
        """Rank 0's value of a small picklable object of our own (never of file content), however long that took."""
        with self.main_first():
            box = [value]
        if self.control is not None:
            dist.broadcast_object_list(box, src=0, group=self.control)
        return box[0]

    def counter(self) -> Iterator[int]:
        """Numbers from 0 on, each given to one process of the job; every process must call, in the same order."""
        name = self.new_name("counter")
        if self.store is None:
            return itertools.count()
        return (_add(self.store, name) - 1 for _ in itertools.count())

    def gather(self, value: Any) -> list[Any]:
        """A small picklable object of our own from every process, in the order of ranks; every process must call."""
        self.barrier()
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


def _await(store: Store, name: str) -> None:
    if not await_key(store, name, WORK_TIMEOUT):
        raise lost_peer(f"nothing for {WORK_TIMEOUT.total_seconds() / 3600:g} hours")


def solo_job() -> Job:
    """A job of one process on the CPU, for commands that are no stage."""
    return Job(0, 1, torch.device("cpu"))


@contextmanager
def start_job(
    device: str = "auto",
    threads: int | None = None,
    independent: bool = False,
    runtime: RuntimeConfig | None = None,
    schedule: ScheduleConfig | None = None,
) -> Iterator[Job]:
    """Join the processes that torchrun started, or be the only one.

    NCCL carries gradients between GPUs; a gloo group beside it carries small control messages over the CPU, so
    that those never synchronise with a device. Tasks of srun or mpirun that have work of their own share the GPUs that
    they see on their machine.

    Args:
        device: auto, cpu or cuda.
        threads: computing threads on the CPU; None leaves torch's choice.
        independent: this process has work of its own, whatever other tasks of srun or mpirun do.
        runtime: whose switches a GPU gets; None: the defaults.
        schedule: of a training: in a job that torchrun may form anew, processes that do not fit it stand by.

    Raises:
        ConfigError: CUDA is asked for and there is none, or the environment is that of a job, and contradicts itself.
        WorkerError: the other processes did not come.
        SystemExit: this process stood by, and the job is done.
    """
    place = place_in_job(os.environ, independent)
    if threads is not None:
        torch.set_num_threads(threads)
    runtime = runtime or RuntimeConfig()
    set_environment(runtime)  # before anything asks for a GPU
    chosen = _device(device, place)
    if chosen.type == "cuda":
        set_switches(runtime)
    else:
        keep_freed_memory()
    if chosen.type == "cuda" and (place.world_size > 1 or chosen.index):
        torch.cuda.set_device(chosen)
    if place.world_size == 1:
        yield Job(0, 1, chosen)
        return
    with _reporting_lost_peers():
        meeting = meet(place.rank, place.world_size)
        size = working_processes(place, schedule)
        with _watched_peers(meeting, place, runtime, is_needed=place.rank < size):
            _report_idle(place, size)
            if place.rank >= size:
                _stand_by(meeting, place)
            yield _grouped(meeting, place.rank, size, chosen, runtime)
            if size < place.world_size and place.rank == 0:
                meeting.store.set(_DONE, "done")
            _leave(meeting, place)
            # Not after an error: shutting down may wait for peers, and the message must not.
            dist.destroy_process_group()


def _grouped(meeting: Meeting, rank: int, size: int, device: torch.device, runtime: RuntimeConfig) -> Job:
    """Make torch's groups of the job's first processes."""
    timeout = collective_timeout(runtime)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=meeting.part("torch"), rank=rank, world_size=size, timeout=timeout)
    control = dist.new_group(backend="gloo", timeout=timeout)
    assert isinstance(control, dist.ProcessGroup), "this process is a member"
    return Job(rank, size, device, control, meeting.part("job"))


def collective_timeout(runtime: RuntimeConfig) -> timedelta:
    """How long a collective operation may take; a peer may wait for its data meanwhile."""
    return max(STEP_TIMEOUT, 2 * timedelta(seconds=runtime.data_timeout))


def _watched_peers(
    meeting: Meeting, place: Place, runtime: RuntimeConfig, is_needed: bool
) -> AbstractContextManager[None]:
    if runtime.peer_timeout is None:
        return nullcontext()
    watch = Watch(meeting.signs, meeting.where, place.rank, place.world_size, Silence(runtime.peer_timeout))
    watch.is_needed = is_needed
    return watching(watch)


def _report_idle(place: Place, size: int) -> None:
    if size < place.world_size and place.rank == 0:
        idle = place.world_size - size
        note(
            f"{size} of {counted(place.world_size, 'process')} train, since so many share lanes and micro-batches "
            f"evenly; {idle} {'stands' if idle == 1 else 'stand'} by"
        )


def _leave(meeting: Meeting, place: Place) -> None:
    """Say that this process needs the store no more. Rank 0, which may serve it, waits a little for the others."""
    with suppress(RuntimeError):  # rank 0 has not waited any longer
        gone = int(meeting.store.add(_LEAVING, 1))
        deadline = time.monotonic() + _LAST_LOOKS
        while place.rank == 0 and gone < place.world_size and time.monotonic() < deadline:
            time.sleep(0.05)
            gone = int(meeting.store.add(_LEAVING, 0))


def _stand_by(meeting: Meeting, place: Place) -> None:
    """Wait, as one of the processes that a training has no use for, until it is done.

    Raises:
        SystemExit: it is.
    """
    while not meeting.store.check([_DONE]):
        time.sleep(_LOOK_EVERY)
    _leave(meeting, place)
    raise SystemExit(0)


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
        raise lost_peer(what_a_peer_did(error)) from error


def _device(name: str, place: Place) -> torch.device:
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
    gpus = torch.cuda.device_count()
    number = place.local_rank or place.task
    if place.task and (gpus == 1 or place.world_size == 1):
        number = place.task % gpus  # the launcher gave each task its own GPU, or tasks of their own share what there is
    if number >= gpus:
        raise ConfigError(
            "there are more processes on this machine than GPUs",
            found=f"local rank {number}, {gpus} GPUs",
            fix="start torchrun with --nproc_per_node of at most the number of GPUs",
        )
    return torch.device("cuda", number)
