"""Processes of a fault campaign: each command in a session of its own, found by a mark in its environment, killed."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from benchmarks.fault_injection.proc import command_line, stat

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "TINYVIT_KD_FAULTS"
NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
STOPS = {"SIGTERM": signal.SIGTERM, "SIGUSR1": signal.SIGUSR1, "SIGINT": signal.SIGINT}
# SIGKILL to the process that was started, to its group, to one of its workers; or a signal that asks it to stop.
PLAIN_KILLS = ("main", "group", "worker", *STOPS)
# The process that was started is torchrun here, and its ranks are in groups of their own.
TORCHRUN_KILLS = ("main", "all", "rank", "worker", "SIGTERM")
KERNEL_THREAD = 0x00200000  # PF_KTHREAD of Linux's include/linux/sched.h


class Member(NamedTuple):
    """One live process of a command."""

    pid: int
    parent: int
    command: str


def hear_interrupts() -> None:
    """Let commands that are started from now on hear SIGINT: shells start what runs in the background deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Running:
    """A command under way.

    Args:
        command: what to run.
        mark: no other command of the campaign has it.
        log: takes what it prints to stderr.
        settings: variables of its environment, beside those of this process.
    """

    def __init__(self, command: list[str], mark: str, log: Path, settings: Mapping[str, str] = NO_GPU) -> None:
        self.mark, self.log = mark, log
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **settings, MARK: mark}
        self.process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,  # not the file itself, to which a limit on the size of files would apply
            start_new_session=True,
        )
        self._began = began(self.process.pid)  # no member is older
        self._copying = threading.Thread(target=self._copy, daemon=True)
        self._copying.start()

    def _copy(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as source, self.log.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 12)

    def printed(self) -> str:
        """What it has printed to stderr, all of it once its processes have ended."""
        self._copying.join(2)
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    @property
    def ended(self) -> bool:
        """Whether the process that was started has ended; others of its family may not have."""
        return self.process.poll() is not None

    def members(self) -> list[Member]:
        """The live processes that carry the mark; one that has ended and was not waited for is none."""
        return _marked(f"{MARK}={self.mark}", self._began)

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than the process lives."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, seconds))

    def poll(self, until: Callable[[], bool], patience: float = 600.0) -> None:
        """Wait for something, but not longer than the process lives."""
        deadline = time.monotonic() + patience
        while not until() and not self.ended and time.monotonic() < deadline:
            time.sleep(0.02)

    def wait(self, patience: float) -> int | None:
        """Its exit code; None where it has not ended in time."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return None

    def leftovers(self, patience: float) -> list[Member]:
        """Those of its processes that are still alive after ``patience`` seconds; they are killed then."""
        deadline = time.monotonic() + patience
        while (members := self.members()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if members:
            self.kill_all()
        return members

    def kill_all(self) -> None:
        """SIGKILL to every process that carries the mark, those that are being started included."""
        while members := self.members():
            for member in members:
                _send(member.pid, signal.SIGKILL)
            self.process.poll()  # or its own entry would stay
            time.sleep(0.01)


def began(pid: int) -> int:
    """When a process began, as the system counts from its own start."""
    return int(stat(pid)[19])


def kill_marked(setting: str, since: int, patience: float) -> None:
    """SIGKILL to every process that has a setting, as ``NAME=VALUE``, in its environment.

    Args:
        setting: the whole entry.
        since: when the first of them began, as ``stat`` counts.
        patience: seconds after which those that a driver holds are left.
    """
    deadline = time.monotonic() + patience
    while (members := _marked(setting, since)) and time.monotonic() < deadline:
        for member in members:
            _send(member.pid, signal.SIGKILL)
        time.sleep(0.01)


def strike(running: Running, kind: str, rng: random.Random) -> str:
    """Kill one or more processes of a command; returns what was done, where there was none of the kind asked for."""
    main = running.process.pid
    if kind in STOPS:
        _send(main, STOPS[kind])
    elif kind == "group":
        with suppress(ProcessLookupError):
            os.killpg(main, signal.SIGKILL)
    elif kind == "all":
        running.kill_all()
    elif kind in ("rank", "worker"):
        victims = _ranks(running) if kind == "rank" else _workers(running)
        if not victims:
            return strike(running, "main", rng)
        _send(rng.choice(victims).pid, signal.SIGKILL)
    else:
        _send(main, signal.SIGKILL)
    return kind


def answers_signals(pid: int) -> bool:
    """Whether a process has a handler for SIGTERM: Python installs none by itself."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((int(line.split()[1], 16) for line in lines if line.startswith("SigCgt")), 0)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


def _ranks(running: Running) -> list[Member]:
    """The processes that torchrun started."""
    return [member for member in running.members() if member.parent == running.process.pid]


def _workers(running: Running) -> list[Member]:
    """Processes that load data or write shards, below the main process or below torchrun's ranks."""
    parents = {running.process.pid}
    if any("torch.distributed.run" in member.command for member in running.members()):
        parents = {member.pid for member in _ranks(running)}
    return [
        member
        for member in running.members()
        if member.parent in parents and "resource_tracker" not in member.command  # of Python's own
    ]


def _marked(setting: str, since: int) -> list[Member]:
    """The live processes that began no earlier and have a setting in their environment."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    found = (_member(pid, setting.encode(), since) for pid in pids)
    return [member for member in found if member is not None]


def _member(pid: int, wanted: bytes, since: int) -> Member | None:
    try:
        fields = stat(pid)
        if int(fields[19]) < since or wanted not in _environment(pid).split(b"\0"):
            return None
        return Member(pid, int(fields[1]), " ".join(command_line(pid)).strip())
    except OSError:  # it has just ended, or is another user's
        return None


def _environment(pid: int, patience: float = 5.0) -> bytes:
    """The environment of a process; in the middle of an ``execve`` the kernel shows none, which is waited out."""
    environ = Path(f"/proc/{pid}/environ")
    deadline = time.monotonic() + patience
    while not (environment := environ.read_bytes()) and not _has_no_program(pid) and time.monotonic() < deadline:
        time.sleep(0.001)
    return environment


def _has_no_program(pid: int) -> bool:
    """Whether a process is a thread of the kernel, or has ended."""
    state, *_, flags = stat(pid)[:7]
    return state in "ZX" or bool(int(flags) & KERNEL_THREAD)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
