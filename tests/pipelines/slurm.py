"""A Slurm of two nodes on this machine, for as long as a test needs it: Debian's munged, slurmctld and slurmd.

Each node is a slurmd of its own. Nothing is installed, or shared with a Slurm that this machine may be part of.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.loopback import free_port
from tests.conftest import REPOSITORY
from tests.processes import wait_until

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "scancel")
NODES = ("node1", "node2")
PACKAGES = "munge, slurmctld, slurmd and slurm-client"
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SlurmdParameters=config_overrides
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=30
{nodes}
PartitionName=low Nodes=ALL Default=YES State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL State=UP PriorityTier=2 PreemptMode=off
"""


class Slurm:
    """A running Slurm.

    Args:
        folder: of its configuration and logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environment = os.environ | {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "CUDA_VISIBLE_DEVICES": "",
            "GPUS": "1",
        }

    def run(self, *words: str | Path, **variables: str | Path) -> str:
        """Run a command in the repository, as one does on a login node, and return what it prints.

        Args:
            variables: of its environment, which sbatch hands on to its job.
        """
        environment = self._environment | {name: str(value) for name, value in variables.items()}
        done = subprocess.run(
            list(map(str, words)), capture_output=True, text=True, cwd=REPOSITORY, env=environment, check=False
        )
        assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def facts(self, job: str) -> dict[str, str]:
        """What ``scontrol show job`` tells of a job, or of the first of its elements."""
        told = self.run("scontrol", "--oneliner", "show", "job", job).splitlines()[0]
        return dict(word.split("=", 1) for word in told.split() if "=" in word)

    def state(self, job: str) -> str:
        """The state of a job."""
        return self.facts(job)["JobState"]

    def wait_for(self, job: str, *states: str, seconds: float = 120) -> None:
        """Wait until a job is in one of these states."""
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            assert time.monotonic() < deadline, f"job {job} is {state}, not {' or '.join(states)}"
            time.sleep(0.2)

    def start_now(self, job: str) -> None:
        """Start a requeued job without the two minutes that Slurm waits before it."""
        time.sleep(5)  # before, a node refuses it, as the credential of the last start was revoked in the same second
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now")


@contextmanager
def slurm() -> Iterator[Slurm]:
    """Start a Slurm, or skip the test where there is none to be started."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        pytest.skip(f"no Slurm is installed here: there is no {', '.join(absent)} (Debian: {PACKAGES})")
    if os.getuid() != 0:
        pytest.skip("slurmd and slurmctld run as root, and these tests do not")
    # Not in pytest's folder: the path of a socket may have no more than 107 characters.
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, ExitStack() as daemons:
        folder = Path(name)
        for each in ("state", "spool"):
            (folder / each).mkdir()
        host = platform.node().partition(".")[0]
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=16" for name in NODES
        )
        values = {"folder": folder, "host": host, "controller_port": free_port(), "nodes": nodes}
        (folder / "slurm.conf").write_text(CONFIGURATION.format_map(values))
        (folder / "munge.key").write_bytes(os.urandom(128))
        (folder / "munge.key").chmod(0o400)
        own = [f"--{each}-file={folder}/munge.{each}" for each in ("key", "pid", "seed", "log")]
        # As daemons do that nobody watches over, each is told to stay in the foreground.
        daemons.enter_context(_daemon("munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *own))
        wait_until((folder / "munge.socket").exists, "munged did not start")
        configuration = str(folder / "slurm.conf")
        daemons.enter_context(_daemon("slurmctld", "-D", "-c", "-f", configuration))
        for name in NODES:
            daemons.enter_context(_daemon("slurmd", "-D", "-N", name, "-f", configuration))
        found = Slurm(folder)
        try:
            wait_until(lambda: _nodes(found) == ["idle"], f"Slurm did not start: {_last_words(folder)}", seconds=30)
            yield found
        finally:
            subprocess.run(["scancel", "--full", "--user", "root"], env=found._environment, check=False)
            wait_until(lambda: not found.run("squeue", "--noheader"), "jobs did not end", seconds=60)


@contextmanager
def _daemon(*command: str) -> Iterator[None]:
    program = shutil.which(command[0])
    assert program is not None
    with subprocess.Popen([program, *command[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def _nodes(found: Slurm) -> list[str]:
    """The states of the nodes in the first partition, each once."""
    done = subprocess.run(
        ["sinfo", "--noheader", "--partition=low", "--format=%T"],
        capture_output=True,
        text=True,
        env=found._environment,
        check=False,
    )
    return done.stdout.split()


def _last_words(folder: Path) -> str:
    return "".join(log.read_text()[-1000:] for log in folder.glob("*.log"))
