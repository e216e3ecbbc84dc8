"""How much memory a process has."""

from __future__ import annotations

import resource
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def private_mib(process: int) -> float:
    """Memory that no other process shares, MiB; Linux. A forked process's own is what it has written to."""
    return _rolled_up(process, "Private_")


def proportional_mib(process: int) -> float:
    """Memory of a process, MiB, where what n processes share counts as an n-th (PSS); Linux."""
    return _rolled_up(process, "Pss:")


def _rolled_up(process: int, field: str) -> float:
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    rows = (line.split() for line in rollup.splitlines()[1:])
    return sum(int(row[1]) for row in rows if row[0].startswith(field)) / 1024


def children(process: int) -> list[int]:
    """The processes that a process has started; Linux."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def peak_mib(device: torch.device) -> float:
    """MiB that this process has had at most: allocated on the GPU, or resident where it computes on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return _resident_kib() / 1024


def _resident_kib() -> int:
    # A process that another started has that one's peak in ``ru_maxrss`` until its own is higher.
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    found = [line for line in lines if line.startswith("VmHWM")]
    return int(found[0].split()[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
