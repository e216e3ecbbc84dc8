"""Reads the bytes of shards from paths and URLs; only this module turns a location into a storage."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from tinyvit_kd.data.locating.remote import local_file
from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.errors import ShardError, reason_of
from tinyvit_kd.storage.base import FileInfo, RangeReader, Storage
from tinyvit_kd.storage.local import LocalStorage

Location = str | Path  # a path, or a URL


class ShardFiles:
    """Reads shards, and reads and writes the files that are kept beside them.

    Only one thread may use it. A copy in another process opens files for itself.

    Args:
        cache_dir: where shards from URLs are kept.
        open_files: how many files stay open.
    """

    def __init__(self, cache_dir: Path | None = None, open_files: int = 256) -> None:
        self._cache_dir = cache_dir
        self._open_files = open_files
        self._local = LocalStorage("", open_files)
        self._resolve = lru_cache(1 << 16)(self._locate)

    def info(self, location: Location) -> FileInfo:
        """Size and modification time of a file.

        Raises:
            ShardError: the file is missing, or the system refuses to examine it.
        """
        storage, name = self._resolve(str(location))
        try:
            info = storage.info(name)
        except OSError as error:
            _refuse(location, error)
        if info is None:
            self.read_at_most(location, 0, 1)  # usually fails with the system's reason
            raise ShardError("cannot read a shard", where=str(location), found="not a file")
        return info

    def read(self, location: Location, offset: int, size: int) -> bytes:
        """Read ``size`` bytes of a file from ``offset`` on.

        Raises:
            ShardError: the file is missing, unreadable or too short.
        """
        content = self.read_at_most(location, offset, size)
        if len(content) != size:
            raise ShardError(
                "a file is shorter than its index says",
                where=str(location),
                found=f"{len(content):,} bytes at byte {offset:,}",
                expected=f"{size:,} bytes",
                fix="the file has changed since it was opened: restore it, then start again",
            )
        return content

    def read_at_most(self, location: Location, offset: int, size: int) -> bytes:
        """As ``read``, but fewer bytes if the file ends before that."""
        storage, name = self._resolve(str(location))
        try:
            return storage.read_range(name, offset, size)
        except OSError as error:
            _refuse(location, error)

    def stream(self, location: Location) -> io.BufferedReader:
        """A seekable stream over a file.

        Raises:
            ShardError: the file is missing.
        """
        size = self.info(location).size
        return io.BufferedReader(RangeReader(lambda offset, count: self.read_at_most(location, offset, count), size))

    def read_beside(self, location: Location, suffix: str, limit: int) -> bytes | None:
        """The content of the file named like the shard, with a suffix appended.

        Args:
            limit: bytes that it may have.

        Returns:
            None if it cannot be read, or is larger.
        """
        storage, name = self._resolve(str(location))
        try:
            info = storage.info(name + suffix)
            return storage.read(name + suffix) if info is not None and info.size <= limit else None
        except OSError:
            return None

    def can_write_beside(self, location: Location) -> bool:
        """Whether files can be written beside a shard, as far as this is known without trying."""
        folder = os.path.dirname(self._resolve(str(location))[1]) or "."
        return os.access(folder, os.W_OK | os.X_OK)

    def write_beside(self, location: Location, suffix: str, content: bytes) -> None:
        """Write the file named like the shard, with a suffix appended.

        Raises:
            OSError: the storage refuses.
        """
        storage, name = self._resolve(str(location))
        storage.write(name + suffix, content)

    def base_name(self, location: Location) -> str:
        """The name of a shard's file without its folder; for a URL, the name of the fetched copy."""
        return self._resolve(str(location))[1].rpartition("/")[2]

    def describe(self, location: Location) -> str:
        """A shard's path or URL, for messages; of a URL, also the file that keeps it."""
        return f"{location}, kept as {self._resolve(str(location))[1]}" if is_url(str(location)) else str(location)

    def close(self) -> None:
        """Close the files that are open."""
        self._local.close()

    def __enter__(self) -> ShardFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[[Path | None, int], ShardFiles], tuple[Path | None, int]]:
        return ShardFiles, (self._cache_dir, self._open_files)

    def _locate(self, location: str) -> tuple[Storage, str]:
        """A storage, and the name of the file in it; a URL is fetched first."""
        if is_url(location):
            return self._local, str(local_file(location, self._cache_dir))
        return self._local, location


def _refuse(location: Location, error: OSError) -> NoReturn:
    raise ShardError("cannot read a shard", where=str(location), found=reason_of(error)) from None
