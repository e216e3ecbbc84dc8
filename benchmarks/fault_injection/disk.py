"""A disk that fills up under a stage: it must stop with a message, leave nothing half-written, and go on later."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fault_injection.compare import BlockWatch
from benchmarks.fault_injection.kills import DEADLINE, PATIENCE, TO_STOP, differences
from benchmarks.fault_injection.processes import Running
from benchmarks.fault_injection.world import DUMP, PRETRAIN, Case, FaultWorld

TMPFS_MIB = 64  # more than the checks before a stage ask for
USER_ERROR = 2


class Disk:
    """Room for one stage's output that can be made to run out: a small tmpfs, or a limit on the size of files.

    Args:
        folder: where the room is.
        mounted: whether it is a file system of its own.
    """

    def __init__(self, folder: Path, mounted: bool) -> None:
        self.folder, self.mounted = folder, mounted
        self.kind = f"a tmpfs of {TMPFS_MIB} MiB" if mounted else "RLIMIT_FSIZE"
        self._filler = folder / "filler"

    def fill(self, running: Running) -> None:
        """From now on, nothing more can be written."""
        if not self.mounted:
            # Of the process that writes, alone: loading processes hand batches over in files of shared memory.
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
            return
        with self._filler.open("ab", buffering=0) as file:
            while _written(file.fileno()):
                pass

    def relieve(self) -> None:
        """Make room again; a limit has ended with its process."""
        self._filler.unlink(missing_ok=True)


def _written(descriptor: int) -> bool:
    try:
        return os.write(descriptor, bytes(1 << 16)) > 0
    except OSError:
        return False


@contextmanager
def small_disk(folder: Path) -> Iterator[Disk]:
    """A tmpfs at ``folder`` where mounting is allowed, else a plain folder."""
    folder.mkdir(parents=True, exist_ok=True)
    mounted = _runs("mount", "-t", "tmpfs", "-o", f"size={TMPFS_MIB}m", "tinyvit_kd_faults", str(folder))
    try:
        yield Disk(folder, mounted)
    finally:
        if mounted:
            _runs("umount", str(folder))


def _runs(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@dataclass
class DiskFull:
    """What came of one stage on a disk that filled up."""

    target: str
    disk: str
    message: str = ""  # the last line that the stage printed
    problems: list[str] = field(default_factory=list)
    unequal: list[str] = field(default_factory=list)  # those of the problems that concern the final result


def fill_disks(world: FaultWorld, folder: Path) -> list[DiskFull]:
    """Fill the disk under ``dump-logits`` and under ``pretrain``; the references of both must have been made."""
    found = []
    for target in (DUMP, PRETRAIN):
        with small_disk(folder / target.stage) as disk:
            found.append(_filled(world.case(target, disk.folder), disk, folder))
    return found


def _filled(case: Case, disk: Disk, logs: Path) -> DiskFull:
    result = DiskFull(str(case.target), disk.kind)
    log = logs / f"{case.target.stage}-full.log"  # outside of the disk
    running = Running(case.command(workers=1), f"{os.getpid()}-full-{case.target.stage}", log)
    running.poll(lambda: case.progress() > 0)
    time.sleep(0.2)
    disk.fill(running)
    code = running.wait(TO_STOP)
    result.problems += [f"{member} is still alive" for member in running.leftovers(PATIENCE)]
    printed = running.printed()
    result.message = ([line for line in printed.splitlines() if line.strip()] or [""])[-1]
    if code != USER_ERROR:
        result.problems.append(f"exit code {code} on a full disk, see {log}")
    if "Traceback" in printed or "To do:" not in result.message:
        result.problems.append(f"the message is no paragraph of ours, see {log}: {result.message}")
    watch = BlockWatch(case.output, case.trace)
    if case.target.stage == "dump-logits":
        result.problems += watch.look()[0]
    disk.relieve()
    _finish(case, logs, result)
    if case.target.stage == "dump-logits":
        result.problems += watch.look()[0]
    return result


def _finish(case: Case, logs: Path, result: DiskFull) -> None:
    log = logs / f"{case.target.stage}-after.log"
    running = Running(case.command(), f"{os.getpid()}-after-{case.target.stage}", log)
    code = running.wait(DEADLINE)
    running.kill_all()
    if code != 0:
        result.problems.append(f"exit code {code} after room was made, see {log}")
    result.unequal = differences(case)
    result.problems += result.unequal
