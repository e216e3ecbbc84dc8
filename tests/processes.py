"""Helpers for tests with several processes or another user."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.fault_injection.proc import state

NOBODY = 65534  # the user id of no one in particular


def alive(pid: int) -> bool:
    """Whether a process is still running; a zombie is not."""
    return state(pid) not in ("", "Z", "X")


def wait_until(happened: Callable[[], object], failure: str, seconds: float = 60) -> None:
    """Poll until something has happened, and fail after ``seconds``; leave plenty of time for a busy machine."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, failure
        time.sleep(0.01)


@contextmanager
def readonly_copy(source: Path, *left_out: str) -> Iterator[Path]:
    """A copy of a folder that every user may read and none may write.

    Args:
        left_out: patterns of names that are not copied.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / source.name
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*left_out))
        Path(name).chmod(0o755)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield folder
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)


@contextmanager
def nobody() -> Iterator[None]:
    """Root ignores modes, so that it must become someone else for a while; others are someone else already."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
