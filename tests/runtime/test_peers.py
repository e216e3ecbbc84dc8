"""Who is gone is told from who is slow: by signs of life in the job's own store, and by a clock that tests set."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import pytest
from torch._C._distributed_c10d import PrefixStore, TCPStore

from tests.processes import wait_until
from tinyvit_kd.runtime.distributed import Job, solo_job
from tinyvit_kd.runtime.peers import Silence, Watch

PATIENCE = 20.0


@dataclass
class World:
    """Three processes of a job with a store on loopback, and their clock."""

    server: TCPStore = field(default_factory=lambda: TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False))
    now: float = 1000.0

    def __post_init__(self) -> None:
        self.watches = [self.watch(rank) for rank in range(3)]
        for watch in self.watches:
            watch.begin()

    def watch(self, rank: int) -> Watch:
        store = PrefixStore("signs", TCPStore("127.0.0.1", self.server.port, None, False))
        return Watch(store, "node0:29500", rank, 3, Silence(PATIENCE, lambda: self.now), host=f"node{rank}")

    def pass_by(self, seconds: int, *beating: int) -> None:
        """Let time go by, while these ranks give signs of life, and all look."""
        for _ in range(seconds):
            self.now += 1
            for rank in beating:
                self.watches[rank].exchange()
            for watch in self.watches:
                watch.verdict()

    def found(self) -> list[str | None]:
        return [None if verdict is None else verdict.found for verdict in (each.verdict() for each in self.watches)]


@pytest.fixture
def job() -> World:
    return World()


def test_processes_that_give_signs_of_life_go_on_for_ever(job: World) -> None:
    job.pass_by(100, 0, 1, 2)
    assert job.found() == [None, None, None]


def test_a_process_that_falls_silent_is_named_to_all_others(job: World) -> None:
    job.pass_by(3, 0, 1, 2)
    job.pass_by(20, 0, 1)
    assert job.found()[:2] == [None, None]
    job.pass_by(2, 0, 1)
    assert job.found()[:2] == ["no sign of rank 2 on node2 for 21 s"] * 2


def test_a_process_that_dies_before_its_first_sign_is_named_too(job: World) -> None:
    job.pass_by(22, 0, 1)
    assert job.found()[:2] == ["no sign of rank 2 for 22 s"] * 2


def test_rank_0_waits_with_its_own_end_until_the_others_can_have_read_why(job: World) -> None:
    job.pass_by(22, 0, 1)
    main, other, _ = (watch.verdict() for watch in job.watches)
    assert main is not None
    assert other is not None
    assert main.grace > other.grace == 0


def test_without_rank_0_the_others_end(job: World) -> None:
    job.pass_by(3, 0, 1, 2)
    job.pass_by(21, 1, 2)
    assert job.found()[1:] == ["no sign of rank 0 on node0 for 21 s"] * 2


def test_a_store_that_does_not_answer_is_blamed_before_those_who_are_heard_of_through_it(job: World) -> None:
    job.pass_by(3, 0, 1, 2)
    job.pass_by(21)
    assert job.found() == ["no answer from the job's store at node0:29500 for 21 s"] * 3


def test_a_store_that_is_gone_is_noticed_at_the_next_request(job: World) -> None:
    job.pass_by(3, 0, 1, 2)
    del job.server
    job.pass_by(1, 0, 1, 2)
    assert job.found() == ["the job's store at node0:29500 is gone"] * 3
    begin = time.monotonic()
    job.pass_by(100, 0)  # it is not asked any more
    assert time.monotonic() - begin < 1


def test_a_process_that_was_itself_stopped_for_hours_blames_nobody(job: World) -> None:
    job.pass_by(3, 0, 1, 2)
    job.now += 7200  # as by SIGSTOP, or on a machine that was suspended
    assert job.found() == [None, None, None]
    job.pass_by(15)
    assert job.found() == [None, None, None]
    job.pass_by(25, 0, 1)
    assert job.found()[0] == "no sign of rank 2 on node2 for 24 s"


def test_a_process_that_has_done_its_work_is_not_missed(job: World) -> None:
    job.pass_by(3, 0, 1, 2)
    job.watches[2].leave()
    job.pass_by(30, 0, 1)
    job.watches[0].leave()
    job.pass_by(1, 1)
    job.pass_by(30)
    assert job.found()[:2] == ["no answer from the job's store at node0:29500 for 31 s", None]


@pytest.mark.parametrize("failing", [0, 2], ids=["rank 0", "another"])
def test_a_process_that_ends_by_an_error_is_named_at_once_and_others_have_time_to_end_well(
    job: World, failing: int
) -> None:
    job.pass_by(3, 0, 1, 2)
    job.watches[failing].fails = True
    job.watches[failing].leave()
    others = [rank for rank in range(3) if rank != failing]
    job.pass_by(2, *others)
    verdicts = [job.watches[rank].verdict() for rank in others]
    assert [each.found for each in verdicts if each] == [f"rank {failing} on node{failing} has ended, and says why"] * 2
    assert all(each and each.grace >= 5 for each in verdicts)


def test_one_that_stood_by_may_be_stopped_without_ending_the_others(job: World) -> None:
    job.watches[2].is_needed = False
    job.watches[2].fails = True
    job.watches[2].leave()
    job.pass_by(50, 0, 1)
    assert job.found()[:2] == [None, None]


# A process that has lost its peer, with its main thread where no exception reaches it. It writes a file meanwhile.
ALONE = """
import sys, threading, time
from torch._C._distributed_c10d import TCPStore
from tinyvit_kd.runtime import peer_watch
from tinyvit_kd.runtime.peers import Silence, Watch

store = TCPStore("127.0.0.1", 0, None, True, wait_for_workers=False)
with peer_watch.watching(Watch(store, "here", 0, 2, Silence(2.0), "me")), peer_watch.last_words(
    lambda message: print("told:", message, flush=True)
):
    with peer_watch.kept_whole():
        time.sleep(4)
        print("written", flush=True)
    threading.Lock().acquire() and threading.Event().wait()
"""


def test_a_process_without_its_peers_finishes_what_it_writes_and_ends_with_the_code_for_requeueing() -> None:
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, timeout=60)
    assert done.returncode == 75, done.stderr
    assert done.stdout.splitlines()[0] == "written"
    assert done.stdout.splitlines()[1].startswith("told: another process of this job is gone")
    assert "no sign of rank 1 for" in done.stderr
    assert "run the same command again" in done.stderr


def test_a_barrier_waits_for_the_slowest_and_lets_all_pass(job: World) -> None:
    stores = [PrefixStore("job", TCPStore("127.0.0.1", job.server.port, None, False)) for _ in range(3)]
    jobs = [Job(rank, 3, solo_job().device, None, store) for rank, store in enumerate(stores)]
    passed: list[int] = []

    def take_part(each: Job) -> None:
        for _ in range(2):
            each.barrier()
            passed.append(each.rank)

    threads = [threading.Thread(target=take_part, args=(each,)) for each in jobs]
    for thread in threads[:2]:
        thread.start()
    time.sleep(0.2)
    assert not passed
    threads[2].start()
    wait_until(lambda: sorted(passed) == [0, 0, 1, 1, 2, 2], "not all have passed twice")
