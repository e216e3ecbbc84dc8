"""Files that are either complete or absent: a temporary file is written and renamed. Also locks and limits."""

from __future__ import annotations

import errno
import fcntl
import glob
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
from tinyvit_kd.runtime.shared_disks import locks_are_used, patiently

LARGEST_JSON = 16 * 2**20  # bytes of a small file; a description with 21,841 names of classes has 1 MiB
_DIGITS = 300  # of a whole number; a float has at most 308
LOCK = ".lock"
_OWN_FILES = 40  # open at a time in a process without workers: 13 were counted, and drivers of a GPU take some
_FILES_PER_WORKER = 6  # 4 were counted
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)  # some network file systems have no locks


@contextmanager
def atomic_path(path: Path, fsync: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside ``path``. On success the file is renamed to ``path``, on failure it is removed.

    Args:
        path: of the finished file; its folder is made.
        fsync: flush the file and its folder to the disk, so that the file survives a power loss.

    Raises:
        OSError: the file cannot be written; it names ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        yield temporary
        if fsync:
            fsync_file(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the error of a full disk names no file
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    if fsync:
        fsync_folder(path.parent)


def atomic_write(path: Path, data: bytes | memoryview, fsync: bool = False) -> None:
    """Write ``data`` to ``path``. Readers never see it incomplete; errors that pass are met by writing it again."""

    def write() -> None:
        with atomic_path(path, fsync) as temporary:
            temporary.write_bytes(data)

    patiently(write, str(path))


def modified(path: Path) -> float | None:
    """When a file was changed, Unix time by the clock of its disk; None if there is no such file."""
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def atomic_create(path: Path, data: bytes | memoryview, fsync: bool = False) -> bool:
    """Write ``data`` to ``path`` unless that exists. Of several writers at the same time, one succeeds.

    On a file system without hard links, a file that appears at the same moment is replaced.

    Returns:
        whether it was written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        temporary.write_bytes(data)
        if fsync:
            fsync_file(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except OSError:
            if path.exists():
                return False
            os.replace(temporary, path)
        if fsync:
            fsync_folder(path.parent)
        return True
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any, fsync: bool = False) -> None:
    """Write ``value`` as indented JSON, atomically."""
    atomic_write(path, (json.dumps(value, indent=2) + "\n").encode(), fsync)


def parse_json(text: str | bytes) -> Any:
    """JSON in which whole numbers beyond any float are infinite, so that no sum or format of them can overflow.

    Raises:
        ValueError, RecursionError: it is none, or is nested too deeply.
    """
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= _DIGITS else float(digits))


def read_small_json(path: Path, largest: int | None = None) -> dict[str, Any]:
    """A JSON object in a small file; empty where there is none that can be read, whatever is there instead.

    Args:
        largest: bytes; what is larger is not read; None: ``LARGEST_JSON``.
    """
    try:
        if path.stat().st_size > (LARGEST_JSON if largest is None else largest):
            return {}
        value = parse_json(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


@contextmanager
def staged_files(folder: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder. On success its files are moved into ``folder``, on failure they are removed.

    For files that other libraries write, under names of their own, and that are looked at before they count.

    Args:
        folder: it is made.
        name: of what is written, for the name of the empty folder; what a killed process left of it is removed.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".{glob.escape(name)}.*.staged"):
        shutil.rmtree(left, ignore_errors=True)
    staged = folder / f".{name}.{secrets.token_hex(4)}.staged"
    staged.mkdir()
    try:
        yield staged
        for file in sorted(staged.iterdir(), reverse=True):  # a file's own data (model.onnx.data) before the file
            os.replace(file, folder / file.name)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if made:
            with suppress(OSError):  # it is not empty, where all went well
                folder.rmdir()


def _beside(path: Path) -> Path:
    """A name for a temporary file that becomes ``path``."""
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")


def unfinished(folder: Path) -> list[Path]:
    """Temporary files in a folder, which running writers use and killed writers leave behind."""
    return sorted(folder.glob(".*.partial"))


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that killed writers left behind, in a folder that no other process writes to."""
    for path in unfinished(folder):
        path.unlink(missing_ok=True)


@contextmanager
def sole_writer(folder: Path, wait: float = 180.0) -> Iterator[None]:
    """Keep other processes, on this machine or on one that shares the disk, from writing to a folder.

    A scheduler may start a run again while its last processes are still ending. The system releases the lock of a
    killed process at once. A file server releases the locks of a lost machine after a minute or two.

    Where locks are not to be trusted, ``TINYVIT_KD_LOCKS=off`` does without, and then whoever starts jobs must see to
    it that no two write to one folder.

    Args:
        folder: it is made if it is missing; an empty lock file stays in it.
        wait: seconds to wait for another process to end.

    Raises:
        BusyError: another process still holds the lock after that time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not locks_are_used():
        yield
        return
    with (folder / LOCK).open("a") as file:
        deadline = time.monotonic() + wait
        warned = False
        while not _try_to_lock(file.fileno()):
            if not warned and wait > 1:
                warn(f"waiting for another process to leave {folder}")
            warned = True
            if time.monotonic() > deadline:
                raise BusyError(
                    "another process is writing to this folder",
                    where=str(folder),
                    fix="wait for it or stop it, or choose another folder",
                )
            time.sleep(0.2)
        yield


def _try_to_lock(descriptor: int) -> bool:
    """Lock an open file; returns False if another process holds the lock, True if the file system has no locks."""
    try:
        # Not flock: loading processes would inherit its lock, and could hold it after their parent was killed.
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
    """Flush a folder's entries to the disk, so that a rename in it survives a power loss."""
    _fsync(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_free_space(folder: Path, bytes_needed: int) -> None:
    """Check that the disk of ``folder`` has enough free space, before the work begins.

    Args:
        folder: may not exist yet.

    Raises:
        DiskSpaceError: fewer than ``bytes_needed`` bytes are free.
    """
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < bytes_needed:
        raise DiskSpaceError(
            "there is not enough free disk space",
            where=str(folder),
            found=f"{free / 2**20:,.0f} MiB free",
            expected=f"at least {bytes_needed / 2**20:,.0f} MiB",
            fix="free some space or choose another folder, then run the same command again",
        )


def nearest_existing(folder: Path) -> Path:
    """The folder itself or, where it does not exist yet, the nearest one above it that does."""
    return next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())


def require_open_files(wanted: int, workers: int) -> None:
    """Raise the limit of open files for this process, and for processes that it starts, towards ``wanted``.

    With fewer, shards are closed and opened again more often (``storage.local``).

    Args:
        workers: loading processes of this one, each of which takes some pipes.

    Raises:
        ConfigError: the system's limit for this user is lower than what these workers need.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    needed = _OWN_FILES + _FILES_PER_WORKER * workers
    if allowed < needed:
        fewer = max(0, (allowed - _OWN_FILES) // _FILES_PER_WORKER)
        raise ConfigError(
            "too few files may be open at a time",
            where="runtime.workers",
            found=f"a limit of {hard} (ulimit -Hn)",
            expected=f"{needed} for {workers} workers",
            fix=f"raise the limit (ulimit -n), or lower runtime.workers to {fewer}" if workers else "raise the limit",
        )
