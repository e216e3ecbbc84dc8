"""Other processes and other users, as tests need them."""

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
    """Whether a process has not ended yet; one that nobody has waited for has."""
    return state(pid) not in ("", "Z", "X")


def wait_until(happened: Callable[[], object], failure: str, seconds: float = 60) -> None:
    """Look again and again; fails with a word where the time is up, which on a busy machine must be much."""
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, failure
        time.sleep(0.01)


@contextmanager
def readonly_copy(source: Path, *left_out: str) -> Iterator[Path]:
    """A copy of a folder that nobody may write to, where others may look.

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
