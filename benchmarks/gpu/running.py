"""A command with a time limit, after which it and all that it started is gone."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fault_injection.processes import began, kill_marked

REPOSITORY = Path(__file__).resolve().parents[2]
MARK = "TINYVIT_KD_GPU_STEP"
PATIENCE = 10.0  # seconds that a killed process has to be gone; a driver may hold it


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: its exit code, negative where a signal ended it; None where it was killed at its limit.
        seconds: from its start.
    """

    code: int | None
    seconds: float


def run(command: Sequence[str], limit: float, log: Path, environment: Mapping[str, str]) -> Outcome:
    """Run a command in the tree and in a process group of its own.

    When this returns, or is left by an exception, none of its processes is alive: its group is killed, and whatever
    left the group still carries a mark in its environment, by which it is found.

    Args:
        command: program and arguments.
        limit: seconds that it may take.
        log: takes what it prints, to both streams.
        environment: of the command.
    """
    mark, begin = secrets.token_hex(8), time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**environment, MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        since = began(process.pid)
        try:
            return Outcome(process.wait(max(0.0, limit)), time.monotonic() - begin)
        except subprocess.TimeoutExpired:
            return Outcome(None, time.monotonic() - begin)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            kill_marked(f"{MARK}={mark}", since, PATIENCE)
