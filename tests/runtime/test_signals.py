"""A signal sets a flag, or ends work that has nothing to save. A process whose parent has gone ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks.fault_injection.proc import state
from tests.processes import alive, wait_until
from tinyvit_kd.runtime.signals import (
    REQUEUE_EXIT_CODE,
    STOP_SIGNALS,
    Preempted,
    adopts_orphans,
    ignore_signals,
    leave_on_signals,
    raise_if_stopped,
    stop_on_signals,
)


@pytest.fixture(autouse=True)
def a_terminal_that_may_close() -> Iterator[None]:
    """Whoever runs these tests under nohup has made them, and what they start, deaf to SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def raise_here(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_a_signal_sets_a_flag_and_interrupts_nothing(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with stop_on_signals() as stop:
        assert not stop
        raise_here(number)
        assert stop
        assert stop.signal == number
    assert signal.getsignal(number) == before


def test_what_nohup_started_goes_on_when_its_terminal_closes() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with leave_on_signals(), stop_on_signals() as stop:
        raise_here(signal.SIGHUP)
        assert not stop
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_process_on_its_way_out_is_at_no_moment_open_to_a_signal() -> None:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        with suppress(SystemExit), leave_on_signals():
            try:
                sys.exit(REQUEUE_EXIT_CODE)
            except SystemExit:
                ignore_signals()
                raise
        assert {signal.getsignal(number) for number in STOP_SIGNALS} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_that_comes_again_on_the_way_out_hides_nothing_that_was_saved(number: signal.Signals) -> None:
    """A scheduler signals all processes of a job, and torchrun passes the signal on to them once more."""

    def stop_twice() -> None:
        try:
            with stop_on_signals() as stop:
                signal.raise_signal(number)
                assert stop
                raise Preempted("stopped with a checkpoint")
        finally:
            signal.raise_signal(number)

    told = "stopped by SIGINT" if number == signal.SIGINT else "stopped with a checkpoint"
    for _ in range(2):
        with pytest.raises(Preempted, match=told), leave_on_signals():
            stop_twice()


def test_a_second_interrupt_stops_at_once() -> None:
    with stop_on_signals():
        raise_here(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            raise_here(signal.SIGINT)


def test_work_with_nothing_to_save_stops_at_once_and_later_signals_only_set_the_flag() -> None:
    with stop_on_signals() as stop:
        with pytest.raises(Preempted) as caught, stop.leaving_at_once():
            raise_here(signal.SIGTERM)
        assert caught.value.code == REQUEUE_EXIT_CODE
        raise_here(signal.SIGUSR1)
        assert stop


def test_a_stop_that_an_import_swallowed_takes_effect_at_the_next_check() -> None:
    with leave_on_signals():
        raise_if_stopped()
        with suppress(BaseException):  # as some packages do around optional imports
            raise_here(signal.SIGTERM)
        with pytest.raises(Preempted, match="SIGTERM"):
            raise_if_stopped()
        with pytest.raises(Preempted), stop_on_signals():
            pytest.fail("it began")
    with leave_on_signals():
        raise_if_stopped()


def test_a_signal_while_an_object_is_removed_stops_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    class Interrupted:
        def __del__(self) -> None:
            raise_here(signal.SIGUSR1)

    before = sys.unraisablehook
    with leave_on_signals():
        Interrupted()
        with pytest.raises(Preempted, match="SIGUSR1"):
            raise_if_stopped()
    assert capsys.readouterr().err == ""
    assert sys.unraisablehook == before


def test_an_earlier_signal_stops_before_long_work_begins() -> None:
    with stop_on_signals() as stop:
        raise_here(signal.SIGUSR1)
        with pytest.raises(Preempted, match="SIGUSR1"), stop.leaving_at_once():
            pytest.fail("it began")


@pytest.mark.parametrize("number", STOP_SIGNALS, ids=lambda number: number.name)
def test_a_command_that_is_stopped_at_any_moment_exits_with_the_code_for_requeueing(
    number: signal.Signals, tmp_path: Path
) -> None:
    # The recipe is a pipe that nobody writes to, so the command waits before it has begun anything.
    os.mkfifo(tmp_path / "recipe.yaml")
    command = subprocess.Popen(
        [sys.executable, "-m", "tinyvit_kd", "evaluate", str(tmp_path / "recipe.yaml")],
        stderr=subprocess.PIPE,
        text=True,
    )
    pipe = wait_for_reader(tmp_path / "recipe.yaml")
    # Until it waits for the first byte: a signal just before is seen only after that.
    wait_until(lambda: state(command.pid) in ("S", "", "Z"), "it does not wait")
    assert command.poll() is None
    command.send_signal(number)
    _, said = command.communicate(timeout=30)
    os.close(pipe)
    assert command.returncode == REQUEUE_EXIT_CODE
    assert said == f"stopped by {number.name}; run the same command again to continue\n"


def wait_for_reader(pipe: Path) -> int:
    """Open a named pipe for writing as soon as another process reads from it."""
    opened: list[int] = []

    def is_read_from() -> bool:
        with suppress(OSError):  # nobody reads yet
            opened.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        return bool(opened)

    wait_until(is_read_from, "nobody reads from the pipe")
    return opened[0]


PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdout=subprocess.PIPE, text=True)
print(child.pid, child.stdout.readline(), end="", flush=True)
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""
CHILD = """
import os, time
from tinyvit_kd.runtime.signals import on_parents_death
on_parents_death(lambda: os._exit(7))
print("ready", flush=True)
time.sleep(600)
"""


def test_a_process_whose_parent_was_killed_ends() -> None:
    done = subprocess.run([sys.executable, "-c", PARENT, CHILD], capture_output=True, text=True, timeout=60)
    pid, word = done.stdout.split()
    assert word == "ready"
    wait_until(lambda: not alive(int(pid)), "it was left behind")


ORPHAN = """
import multiprocessing, os, signal, sys, time
from tinyvit_kd.runtime.signals import on_parents_death
from tinyvit_kd.runtime.watchdog import Notes, register_worker

def work(parent):
    print(os.getpid(), flush=True)
    while os.getppid() == parent:
        time.sleep(0.01)
    if sys.argv[1] == "reads":
        register_worker(Notes(1), 0)
    else:
        on_parents_death(lambda: os._exit(7))
    time.sleep(600)

multiprocessing.get_context("fork").Process(target=work, args=(os.getpid(),)).start()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("kind", ["reads", "other"])
def test_a_process_whose_parent_was_killed_before_it_began_to_watch_it_ends(kind: str) -> None:
    # The output ends when the last process that could write to it has ended.
    done = subprocess.run([sys.executable, "-c", ORPHAN, kind], capture_output=True, text=True, timeout=60)
    wait_until(lambda: not alive(int(done.stdout)), "it was left behind")


# Starts the command line as torchrun does, and is gone before that has begun.
GONE = """
import os, signal, subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), *sys.argv[2:]])
os.kill(os.getpid(), signal.SIGKILL)
"""
LEFT = """
import os, runpy, sys, time
print(os.getpid(), flush=True)
parent = int(sys.argv.pop(1))
while os.getppid() == parent:
    time.sleep(0.01)
runpy.run_module("tinyvit_kd", run_name="__main__")
"""
JOB = {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


def test_a_rank_whose_torchrun_died_before_it_began_leaves_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", GONE, LEFT, "evaluate", str(tmp_path / "recipe.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=os.environ | JOB)
    wait_until(lambda: not alive(int(done.stdout)), "it was left behind")
    assert (
        done.stderr
        == "[rank 1] torchrun, which started this process, is gone; run the same command again to continue\n"
    )


def test_whoever_starts_this_process_is_not_taken_for_one_that_adopts() -> None:
    assert not adopts_orphans(os.getpid())
    assert not adopts_orphans(os.getppid())
