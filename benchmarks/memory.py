"""How much memory a process has."""

from __future__ import annotations

import resource
from collections.abc import Iterable
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


def private_mib(process: int) -> float:
    """Memory that no other process shares, MiB; Linux. A forked process's own is what it has written to."""
    return _rollup_mib(process, "Private_")


def pss_mib(processes: Iterable[int]) -> float:
    """Memory of some processes together, MiB; Linux. What several processes share counts in parts, and so once."""
    return sum(_rollup_mib(process, "Pss:") for process in processes)


def peak_mib(device: torch.device) -> float:
    """MiB that this process has had at most: allocated on the GPU, or resident where it computes on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return _resident_kib() / 1024


def _rollup_mib(process: int, rows: str) -> float:
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    fields = (line.split() for line in rollup.splitlines()[1:])
    return sum(int(field[1]) for field in fields if field[0].startswith(rows)) / 1024


def _resident_kib() -> int:
    # A process that another started has that one's peak in ``ru_maxrss`` until its own is higher.
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    found = [line for line in lines if line.startswith("VmHWM")]
    return int(found[0].split()[1]) if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
