"""Copies of single files at URLs on this machine, for readers that need a path."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from tinyvit_kd.runtime.cache_folder import cache_folder, folder_name
from tinyvit_kd.runtime.files import sole_writer
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.storage.base import FileInfo, Storage
from tinyvit_kd.storage.open import open_storage

_WAIT = 3600.0  # seconds for another process of this machine that fetches the same files
_AT_A_TIME = 8  # files
_TRIES = 3  # where a file is replaced while it is fetched


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

    A file is fetched, whole or not at all, unless the copy has its size and time already: one request for each name.
    Copies have the times of their originals.

    Raises:
        OSError: the storage or the disk refuses.
    """
    storage = open_storage(url)
    folder = cache_folder("copies").joinpath(folder_name(url))
    with sole_writer(folder, _WAIT), saying(f"looking at {url}"), ThreadPoolExecutor(_AT_A_TIME) as pool:
        list(pool.map(lambda name: copy_file(storage, name, folder.joinpath(name)), names))
    return folder


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
