"""What Linux reports about a process: proc(5)."""

from __future__ import annotations

from pathlib import Path


def stat(pid: int) -> list[str]:
    """The fields of a process's ``stat``, starting with its state (proc_pid_stat(5): the third).

    Raises:
        OSError: there is no such process, or it is just ending.
    """
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def state(pid: int) -> str:
    """One letter: "R" running or ready, "S" sleeping, "Z" zombie; "" if there is no such process."""
    try:
        return stat(pid)[0]
    except (FileNotFoundError, ProcessLookupError):  # the second if it ends while it is being read
        return ""


def command_line(pid: int) -> list[str]:
    """Its program and arguments.

    Raises:
        OSError: there is no such process.
    """
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").removesuffix("\0").split("\0")


def children(pid: int) -> list[int]:
    """The processes that a process's main thread started.

    Raises:
        OSError: there is no such process.
    """
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
