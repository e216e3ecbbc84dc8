"""How much memory a process has for itself."""

from __future__ import annotations

from pathlib import Path


def private_mib(process: int) -> float:
    """Memory that no other process shares, MiB; Linux. A forked process's own is what it has written to."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    rows = (line.split() for line in rollup.splitlines()[1:])
    return sum(int(row[1]) for row in rows if row[0].startswith("Private_")) / 1024
