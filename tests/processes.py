"""What the system says of a process."""

from __future__ import annotations

from pathlib import Path


def state(pid: int) -> str:
    """A letter of proc_pid_stat(5): "R" runs or is to, "S" waits, "Z" has ended and was not waited for; none: "" """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):  # the second where it ends while it is read
        return ""


def alive(pid: int) -> bool:
    """Whether a process has not ended yet; one that nobody has waited for has."""
    return state(pid) not in ("", "Z", "X")
