"""Processes that torchrun starts again meet as if it were for the first time, whatever the dead left in their store."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

import pytest
import torch
from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

from tinyvit_kd.errors import WorkerError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.meeting import agreed_name, await_server, part_of_start

TIMEOUT = timedelta(seconds=20)


def fresh_store(store: Store, rank: int, world_size: int, timeout: timedelta) -> Store:
    """The part of a store that a process takes for that of its start alone."""
    return part_of_start(agreed_name(store, rank, world_size, timeout), store)


@dataclass
class Torchrun:
    """The store that torchrun keeps as long as it lives. Threads stand for processes: each has a client of its own."""

    server: TCPStore

    def client(self) -> TCPStore:
        return TCPStore("127.0.0.1", self.server.port, None, False, timeout=TIMEOUT)

    def start(self, world_size: int) -> list[Store]:
        """What each process of a start takes for its own part of the store."""
        with ThreadPoolExecutor(world_size) as pool:
            met = [
                pool.submit(fresh_store, self.client(), rank, world_size, TIMEOUT)
                for rank in reversed(range(world_size))
            ]
            return [each.result() for each in reversed(met)]

    def jobs(self, world_size: int) -> list[Job]:
        stores = self.start(world_size)
        return [Job(rank, world_size, torch.device("cpu"), None, store) for rank, store in enumerate(stores)]


@pytest.fixture
def torchrun() -> Torchrun:
    return Torchrun(TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False))


def test_all_processes_of_a_start_share_what_they_write(torchrun: Torchrun) -> None:
    first, second, third = torchrun.start(3)
    first.set("key", "value")
    assert second.get("key") == third.get("key") == b"value"
    assert [each.add("count", 1) for each in (first, second, third)] == [1, 2, 3]


@pytest.mark.parametrize("sizes", [(2, 2, 2), (4, 2, 3), (2, 4)], ids=str)
def test_a_start_finds_nothing_of_those_before_it_whatever_the_number_of_processes(
    torchrun: Torchrun, sizes: tuple[int, ...]
) -> None:
    for size in sizes:
        stores = torchrun.start(size)
        assert not any(each.check(["address"]) for each in stores)
        stores[0].set("address", "where nobody listens any more")
        stores[-1].wait(["address"], TIMEOUT)


def test_counters_of_a_start_begin_at_zero(torchrun: Torchrun) -> None:
    for _ in range(2):
        counters = [job.counter() for job in torchrun.jobs(2)]
        assert [next(counters[rank]) for rank in (0, 1, 1, 0)] == [0, 1, 2, 3]


def test_a_start_waits_for_its_own_rank_0_not_for_the_last_one_s(torchrun: Torchrun) -> None:
    for _ in range(2):
        main, other = torchrun.jobs(2)
        done = "main-first-0"
        assert other.store is not None
        assert not other.store.check([done])
        with main.main_first():
            assert not other.store.check([done])
        with other.main_first():
            assert other.store.get(done) == b"done"


def test_processes_that_died_while_they_met_leave_nothing_behind(torchrun: Torchrun) -> None:
    meeting = PrefixStore("tinyvit_kd/meeting", torchrun.client())
    meeting.set("hello-1", "a process that was killed at once")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(fresh_store, torchrun.client(), 0, 2, TIMEOUT)
        meeting.wait(["a process that was killed at once"], TIMEOUT)  # rank 0 has answered it
        assert not first.done()
        second = fresh_store(torchrun.client(), 1, 2, TIMEOUT)
        second.set("key", "value")
        assert first.result().get("key") == b"value"


@pytest.mark.parametrize(
    ("rank", "found"), [(0, "no sign of rank 1, 2"), (1, "no answer from rank 0")], ids=["rank 0", "another"]
)
def test_a_process_says_for_whom_it_has_waited_in_vain(torchrun: Torchrun, rank: int, found: str) -> None:
    with pytest.raises(WorkerError, match="have not found each other") as caught:
        fresh_store(torchrun.client(), rank, 3, timedelta(seconds=0.3))
    assert caught.value.found == found
    assert caught.value.can_be_retried


def test_a_process_waits_until_somebody_listens_where_they_meet(torchrun: Torchrun) -> None:
    await_server("127.0.0.1", torchrun.server.port, 1, 2, timedelta(0))
    first, second = torchrun.start(2)  # the store does not mind who came, and said nothing
    first.set("key", "value")
    assert second.get("key") == b"value"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        with pytest.raises(WorkerError, match="have not found each other") as caught:
            await_server("127.0.0.1", port, 1, 2, timedelta(seconds=0.3))
    assert caught.value.found == f"127.0.0.1:{port}: Connection refused"
    assert caught.value.where == "process 1 of 2, counted from 0"
