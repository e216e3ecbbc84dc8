"""Files that are either there, whole, or not there: write aside, then rename."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tinyvit_kd.errors import BusyError, ConfigError, DiskSpaceError
from tinyvit_kd.runtime.log import warn

_LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # some network file systems have none


@contextmanager
def atomic_path(path: Path, fsync: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it becomes ``path``, on failure it is removed.

    Args:
        path: where the finished file shall be; its folder is made.
        fsync: flush the file and its folder to the disk, so that it survives a power loss.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield temporary
        if fsync:
            fsync_file(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a full disk does not say for whom
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if fsync:
        fsync_folder(path.parent)


def atomic_write(path: Path, data: bytes | memoryview, fsync: bool = False) -> None:
    """Write ``data`` to ``path`` so that no reader ever sees a part of it."""
    with atomic_path(path, fsync) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any, fsync: bool = False) -> None:
    """Write ``value`` as indented JSON, atomically."""
    atomic_write(path, (json.dumps(value, indent=2) + "\n").encode(), fsync)


def unfinished(folder: Path) -> list[Path]:
    """Temporary files in a folder: of writers at work, or left behind by killed ones."""
    return sorted(folder.glob(".*.partial"))


def remove_unfinished(folder: Path) -> None:
    """Remove what killed writers left behind, from a folder that no one else writes to."""
    for path in unfinished(folder):
        path.unlink(missing_ok=True)


@contextmanager
def sole_writer(folder: Path, wait: float = 180.0) -> Iterator[None]:
    """Keep other processes, on this machine or on one that shares the disk, from writing to a folder.

    A scheduler may start a run again while its last processes are still ending. The system gives up the lock of a
    process that was killed at once, a file server that of a machine that was lost after a minute or two.

    Args:
        folder: it is made, and keeps an empty file.
        wait: seconds to wait for another process to end.

    Raises:
        BusyError: another one was still there after that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _LOCK).open("a") as file:
        deadline, told = time.monotonic() + wait, False
        while not _locked(file.fileno()):
            if not told and wait > 1:
                warn(f"waiting for another process to leave {folder}")
            told = True
            if time.monotonic() > deadline:
                raise BusyError(
                    "another process is writing to this folder",
                    where=str(folder),
                    fix="wait for it or stop it, or choose another folder",
                )
            time.sleep(0.2)
        yield


def _locked(descriptor: int) -> bool:
    try:
        # Not flock, whose lock the loading processes would inherit and outlive their killed parent with.
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


def fsync_file(path: Path) -> None:
    """Flush a file's content to the disk."""
    _fsync(path, os.O_RDONLY)


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries, which a rename changed, to the disk."""
    _fsync(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_free_space(folder: Path, bytes_needed: int) -> None:
    """Check, before the work starts, that the disk of ``folder`` has room for it.

    Raises:
        DiskSpaceError: if fewer than ``bytes_needed`` bytes are free.
    """
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < bytes_needed:
        raise DiskSpaceError(
            "there is not enough free disk space",
            where=str(folder),
            found=f"{free / 2**20:,.0f} MiB free",
            expected=f"at least {bytes_needed / 2**20:,.0f} MiB",
            fix="free some space or choose another folder, then run it again",
        )


def require_open_files(count: int) -> None:
    """Let this process, and those it starts, have ``count`` files open at a time.

    Raises:
        ConfigError: the system's limit for this user is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    if allowed < count:
        raise ConfigError(
            "too few files may be open at a time",
            where="runtime.workers, runtime.prefetch",
            found=f"a limit of {hard} (ulimit -Hn)",
            expected=f"{count} for these workers",
            fix="raise the limit, or lower runtime.workers or runtime.prefetch",
        )
