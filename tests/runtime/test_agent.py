"""torchrun that ends with what its processes ended with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler

from benchmarks.loopback import LOOPBACK, free_port
from tests.conftest import CommandLine
from tests.processes import wait_until
from tinyvit_kd.errors import WorkerError
from tinyvit_kd.runtime.agent import joint_exit_code, run_agent
from tinyvit_kd.runtime.signals import REQUEUE_EXIT_CODE, Preempted

TWO = ("--standalone", "--nproc_per_node", "2", "--monitor_interval", "0.1", "--no_python")


def program(folder: Path, text: str) -> str:
    """A script that knows its rank."""
    path = folder / "program.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("codes", "joint"),
    [
        ((75,), 75),
        ((-9,), 75),
        ((75, -15), 75),
        ((1,), 1),
        ((75, 1), 1),
        ((2,), 2),
        ((75, 1, 2, -9), 2),
        ((3,), 75),
        ((75, -11), 1),
    ],
)
def test_the_code_that_tells_most_is_answered(codes: tuple[int, ...], joint: int) -> None:
    assert joint_exit_code(codes) == joint


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("exit 0", 0, ""),
        ("exit 75", 75, "ended with exit code 75"),
        ("exit 2", 2, "ended with exit code 2"),
        ("kill -KILL $$", 75, "was ended by SIGKILL"),
    ],
)
def test_a_job_ends_with_what_its_processes_ended_with(
    text: str, code: int, said: str, tmp_path: Path, command_line: CommandLine
) -> None:
    ended = command_line("torchrun", *TWO, program(tmp_path, text))
    assert ended.code == code
    assert said in ended.err
    assert "Traceback" not in ended.err


def test_machines_that_do_not_meet_may_be_started_again(tmp_path: Path) -> None:
    nowhere = ("--nnodes", "2", "--rdzv_backend", "c10d", "--rdzv_endpoint", "127.0.0.1:9", "--rdzv_conf")
    with pytest.raises(WorkerError, match="did not meet"):
        run_agent([*nowhere, "is_host=0,read_timeout=1,timeout=2", "--no_python", program(tmp_path, "exit 0")])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_machine_that_is_stopped_while_it_joins_a_job_leaves_it_open_to_others(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut: list[object] = []

    def stopped(_rendezvous: DynamicRendezvousHandler) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr(DynamicRendezvousHandler, "next_rendezvous", stopped)
    monkeypatch.setattr(DynamicRendezvousHandler, "shutdown", shut.append)
    here = ("--nnodes", "1:2", "--rdzv_backend", "c10d", "--rdzv_endpoint", f"{LOOPBACK}:{free_port()}")
    with pytest.raises(Preempted, match=f"stopped by {number.name}"):
        run_agent([*here, "--no_python", program(tmp_path, "exit 0")])
    assert shut == []


def test_arguments_that_torchrun_does_not_take_are_a_mistake(command_line: CommandLine) -> None:
    ended = command_line("torchrun", "--processes", "2", "-m", "tinyvit_kd")
    assert ended.code == 2
    assert "usage: " in ended.err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1], ids=lambda number: number.name)
def test_a_signal_is_handed_on_and_asks_for_another_start(number: signal.Signals, tmp_path: Path) -> None:
    """SIGUSR1, too, which ends a bare torchrun and leaves its processes alone."""
    text = (
        f"trap 'touch {tmp_path}/told-$RANK; exit 75' TERM; touch {tmp_path}/there-$RANK; while :; do sleep 0.1; done"
    )
    command = [sys.executable, "-m", "tinyvit_kd", "torchrun", *TWO, program(tmp_path, text)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ) as job:
        wait_until(lambda: len(list(tmp_path.glob("there-*"))) == 2, "the processes did not start")
        job.send_signal(number)
        _, errors = job.communicate(timeout=60)
    assert job.returncode == REQUEUE_EXIT_CODE, errors
    assert len(list(tmp_path.glob("told-*"))) == 2
    assert number.name in errors
    assert "Traceback" not in errors
