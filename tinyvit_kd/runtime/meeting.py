"""How the processes of a job find each other, anew each time that torchrun starts them.

torchrun may restart its processes (``--max-restarts``, or a machine that joins or leaves), and those of torch 2.15 then
meet in a store that still holds every key of those before: addresses where nobody listens any more, counters that go
on. Nothing in the environment numbers the starts: TORCHELASTIC_RESTART_COUNT stays where a machine joins, and differs
between machines where only one saw a process die. So the processes agree on a name by shaking hands, and all keys of
the job, torch's own included, begin with that name.
"""

from __future__ import annotations

import secrets
import time
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from tinyvit_kd.errors import WorkerError
from tinyvit_kd.runtime.foreign_errors import first_line_of, is_lost_peer

# How long a process waits for the others at the start: torchrun starts all at once, and may be killed meanwhile.
MEETING_TIMEOUT = timedelta(minutes=5)
_LOOK_EVERY = 0.02  # seconds between looks for those who have come


def join(backend: str, rank: int, world_size: int, timeout: timedelta) -> Store:
    """Make torch's default process group, of the processes that were started together with this one.

    Args:
        backend: nccl or gloo.
        timeout: of collective operations, once all have met.

    Returns:
        a store for this start of the job alone.

    Raises:
        WorkerError: the other processes did not come.
    """
    try:
        store, rank, world_size = next(rendezvous("env://", rank, world_size, timeout=MEETING_TIMEOUT))
        own = fresh_store(store, rank, world_size, MEETING_TIMEOUT)
        dist.init_process_group(
            backend, store=PrefixStore("torch", own), rank=rank, world_size=world_size, timeout=timeout
        )
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise _not_met(rank, world_size, first_line_of(error)) from error
    return PrefixStore("job", own)


def fresh_store(store: Store, rank: int, world_size: int, timeout: timedelta) -> Store:
    """A part of a store that nobody has written to before: the same one for all processes that call this together.

    Every process has a name of its own, drawn at random, under which rank 0 answers it. What processes of earlier
    starts left in the store is answered, too, and read by nobody.

    Args:
        timeout: how long to wait for the others.

    Raises:
        WorkerError: not all processes have come in time.
    """
    meeting = PrefixStore("tinyvit_kd/meeting", store)
    own = secrets.token_hex(8)
    if rank == 0:
        _welcome(meeting, own, world_size, timeout)
        return PrefixStore(f"tinyvit_kd/{own}", store)
    meeting.set(_hello(rank), own)
    try:
        meeting.wait([own], timeout)
    except dist.DistStoreError:
        raise _not_met(rank, world_size, "no answer from rank 0", timeout) from None
    start = meeting.get(own).decode()
    meeting.set(_here(start, rank), own)
    return PrefixStore(f"tinyvit_kd/{start}", store)


def _hello(rank: int) -> str:
    return f"hello-{rank}"


def _here(start: str, rank: int) -> str:
    return f"{start}-{rank}"


def _welcome(meeting: Store, start: str, world_size: int, timeout: timedelta) -> None:
    """Tell every process the name of this start, until all have said that they know it."""
    deadline = time.monotonic() + timeout.total_seconds()
    answered: dict[int, str] = {}
    awaited = list(range(1, world_size))
    while awaited:
        for rank in awaited:
            if not meeting.check([_hello(rank)]):
                continue
            name = meeting.get(_hello(rank)).decode()
            if answered.get(rank) != name:
                meeting.set(name, start)
                answered[rank] = name
        awaited = [rank for rank in awaited if not meeting.check([_here(start, rank)])]
        if awaited and time.monotonic() > deadline:
            listed = ", ".join(map(str, awaited[:8])) + (", …" if len(awaited) > 8 else "")
            raise _not_met(0, world_size, f"no sign of rank {listed}", timeout)
        time.sleep(_LOOK_EVERY)


def _not_met(rank: int, world_size: int, found: str, timeout: timedelta = MEETING_TIMEOUT) -> WorkerError:
    minutes = timeout.total_seconds() / 60
    return WorkerError(
        "the processes of this job have not found each other",
        where=f"process {rank} of {world_size}, counted from 0",
        found=found,
        expected=f"all {world_size} within {minutes:g} minutes",
        fix="check that torchrun runs on every machine with the same --nnodes and --rdzv_endpoint (or MASTER_ADDR and "
        "MASTER_PORT), and that machines can reach each other; then run the same command again",
    )
