"""Copies of single files at URLs on this machine, for readers that need a path."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tinyvit_kd.errors import BusyError
from tinyvit_kd.runtime.cache_folder import cache_folder, folder_name
from tinyvit_kd.runtime.files import LOCK, sole_writer
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.storage.base import FileInfo, Storage
from tinyvit_kd.storage.open import open_storage

_WAIT = 3600.0  # seconds for another process of this machine that fetches the same files
_AT_A_TIME = 8  # files
_TRIES = 3  # where a file is replaced while it is fetched
_UNUSED = 30 * 86400.0  # seconds after which a copy that nobody has asked for is removed


def local_path(location: str) -> Path | None:
    """The path of a location on this machine; None if it is a URL of something else."""
    if "://" not in location:
        return Path(location)
    storage = open_storage(location)
    return Path(storage.locate()) if storage.is_local else None


def parts_of(url: str) -> tuple[str, str]:
    """The URL of the folder that a URL is in, and its last part; the latter is empty for a whole bucket or server."""
    scheme, _, rest = url.partition("://")
    above, separator, name = rest.rstrip("/").rpartition("/")
    return (f"{scheme}://{above}", name) if separator else (url, "")


def copied(url: str, names: Iterable[str]) -> Path:
    """A folder on this machine with those of some files that there are below a URL.

    A file is fetched, whole or not at all, unless the copy has its size and time already: one request for each name. It
    replaces the copy of what was there before. Copies have the times of their originals; when they were last used is
    their time of access. Those of any URL that were not used for 30 days are removed.

    Raises:
        OSError: the storage or the disk refuses.
    """
    storage = open_storage(url)
    copies = cache_folder("copies")
    folder = copies.joinpath(folder_name(url))
    with sole_writer(folder, _WAIT), saying(f"looking at {url}"), ThreadPoolExecutor(_AT_A_TIME) as pool:
        list(pool.map(lambda name: _copy_and_note_use(storage, name, folder.joinpath(name)), names))
    with suppress(OSError):  # what cannot be removed does no harm
        _remove_unused(copies)
    return folder


def _copy_and_note_use(storage: Storage, name: str, path: Path) -> None:
    if copy_file(storage, name, path):
        os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))


def _remove_unused(copies: Path) -> None:
    """Remove what nobody has asked for in a long time, of URLs that no other process looks at now.

    Whoever has such a file open reads on. Folders stay, with their locks, for which others may wait.
    """
    for folder in copies.iterdir():
        if any(_unused_in(folder)):
            with suppress(BusyError), sole_writer(folder, wait=0):
                for path in list(_unused_in(folder)):
                    path.unlink(missing_ok=True)


def _unused_in(folder: Path) -> Iterator[Path]:
    since = time.time() - _UNUSED
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            if path.name != LOCK and path.is_file() and path.stat().st_atime < since:
                yield path


def copy_file(storage: Storage, name: str, path: Path) -> bool:
    """Make a path hold what a storage has under a name; a path of what it does not have is removed.

    Returns:
        whether there is such a file.
    """
    for _ in range(_TRIES):
        info = storage.info(name)
        if info is None:
            with suppress(IsADirectoryError, PermissionError):  # a folder that consoles make a name for
                path.unlink(missing_ok=True)
            return False
        if _has(path, info):
            return True
        storage.fetch(name, path)
        os.utime(path, ns=(info.modified_ns, info.modified_ns))
        if path.stat().st_size == info.size:
            break
    return True


def _has(path: Path, info: FileInfo) -> bool:
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    return (status.st_size, status.st_mtime_ns) == (info.size, info.modified_ns)
