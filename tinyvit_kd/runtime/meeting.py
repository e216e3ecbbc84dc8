"""How the processes of a job find each other, anew each time that torchrun starts them.

torchrun may restart its processes (``--max-restarts``, or a machine that joins or leaves), and those of torch 2.15 then
meet in a store that still holds every key of those before: addresses where nobody listens any more, counters that go
on. Nothing in the environment numbers the starts: TORCHELASTIC_RESTART_COUNT stays where a machine joins, and differs
between machines where only one saw a process die. So the processes agree on a name by shaking hands, and all keys of
the job, torch's own included, begin with that name.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from dataclasses import dataclass
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore
from torch.distributed.rendezvous import rendezvous

from tinyvit_kd.errors import WorkerError, reason_of
from tinyvit_kd.runtime.files import require_open_files
from tinyvit_kd.runtime.foreign_errors import is_lost_peer, what_a_peer_did
from tinyvit_kd.runtime.wording import first_few

# How long a process waits for the others at the start: torchrun starts all at once, and may be killed meanwhile.
MEETING_TIMEOUT = timedelta(minutes=5)
_LOOK_EVERY = 0.02  # seconds between looks for those who have come
_OTHER_FILES = 1024  # that the process which serves the store may have open besides
_LONGEST_SLEEP = 0.25  # seconds between looks for a key


@dataclass(frozen=True)
class Meeting:
    """The processes that were started together with this one.

    Attributes:
        store: a part of the job's store for this start alone.
        signs: another part of it, by a connection of its own.
        where: the store's address.
    """

    store: Store
    signs: Store
    where: str

    def part(self, name: str) -> Store:
        """A part of ``store`` for one purpose."""
        return PrefixStore(name, self.store)


def meet(rank: int, world_size: int) -> Meeting:
    """Meet the processes that were started together with this one.

    Raises:
        WorkerError: they did not come.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if rank == 0:
        require_open_files(_OTHER_FILES + 2 * world_size, 0)  # two connections for each process
    else:  # rank 0 may be the one that serves the store
        await_server(host, port, rank, world_size, MEETING_TIMEOUT)
    try:
        store, rank, world_size = next(rendezvous("env://", rank, world_size, timeout=MEETING_TIMEOUT))
        start = agreed_name(store, rank, world_size, MEETING_TIMEOUT)
        connection = TCPStore(host, port, None, False, timeout=MEETING_TIMEOUT)
    except RuntimeError as error:
        if not is_lost_peer(error):
            raise
        raise _not_met(rank, world_size, what_a_peer_did(error)) from error
    return Meeting(
        part_of_start(start, store), PrefixStore("signs", part_of_start(start, connection)), f"{host}:{port}"
    )


def await_key(store: Store, name: str, timeout: timedelta) -> bool:
    """Wait until somebody has set a key; False if nobody has in time.

    The store's own ``wait`` does not return to Python meanwhile, where signals would be heeded.
    """
    begin = time.monotonic()
    while not store.check([name]):
        waited = time.monotonic() - begin
        if waited > timeout.total_seconds():
            return False
        time.sleep(min(max(waited / 10, 0.001), _LONGEST_SLEEP))
    return True


def await_server(host: str, port: int, rank: int, world_size: int, timeout: timedelta) -> None:
    """Wait until somebody listens where processes are to meet. torch would wait twice, and print its own stack.

    Raises:
        WorkerError: nobody listens there in time.
    """
    deadline = time.monotonic() + timeout.total_seconds()
    while True:
        try:
            socket.create_connection((host, port), timeout=10).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise _not_met(rank, world_size, f"{host}:{port}: {reason_of(error)}", timeout) from None
        time.sleep(0.2)


def part_of_start(start: str, store: Store) -> Store:
    """The part of a store that belongs to a start alone, by the name that its processes have agreed on."""
    return PrefixStore(f"tinyvit_kd/{start}", store)


def agreed_name(store: Store, rank: int, world_size: int, timeout: timedelta) -> str:
    """A name that no earlier start has had: the same one for all processes that call this together.

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
        return own
    meeting.set(_hello(rank), own)
    if not await_key(meeting, own, timeout):
        raise _not_met(rank, world_size, "no answer from rank 0", timeout)
    start = str(meeting.get(own).decode())
    meeting.set(_here(start, rank), own)
    return start


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
            raise _not_met(0, world_size, f"no sign of rank {first_few(awaited, 8)}", timeout)
        time.sleep(_LOOK_EVERY)


def _stale_address() -> str:
    """What else may be wrong where torchrun forms jobs anew: see docs/CLUSTERS.md, When a machine is lost."""
    serves = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    restarts = os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0"
    return ", and set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun if machines come and go" * (serves and restarts)


def _not_met(rank: int, world_size: int, found: str, timeout: timedelta = MEETING_TIMEOUT) -> WorkerError:
    minutes = timeout.total_seconds() / 60
    return WorkerError(
        "the processes of this job have not found each other",
        where=f"process {rank} of {world_size}, counted from 0",
        found=found,
        expected=f"all {world_size} within {minutes:g} minutes",
        fix="check that torchrun runs on every machine with the same --nnodes and --rdzv_endpoint (or MASTER_ADDR and "
        f"MASTER_PORT), and that machines can reach each other{_stale_address()}; then run the same command again",
    )
