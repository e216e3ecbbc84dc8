"""Reads the bytes of shards from paths and URLs; only this module turns a location into a storage."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import TracebackType

from tinyvit_kd.data.locating.copies import LocalCopies
from tinyvit_kd.data.locating.fetch_errors import cannot_read
from tinyvit_kd.data.locating.listed import ListedFiles
from tinyvit_kd.data.locating.remote import no_cache
from tinyvit_kd.data.locating.served import WEB, is_served, located
from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.errors import ShardError
from tinyvit_kd.storage.base import FileInfo, RangeReader, Storage, read_limited
from tinyvit_kd.storage.local import LocalStorage

Location = str | Path  # a path, or a URL
_TRIES = 20  # to open a copy
_READ_ONLY: set[str] = set()  # folders at URLs that this process was not allowed to write to


class ShardFiles:
    """Reads shards, and reads and writes the files that are kept beside them.

    Only one thread may use it. A copy in another process opens files for itself.

    A URL that a storage serves is read there, a part at a time; samples are read from a copy on this machine where
    copies are kept. All other URLs are always read from a copy.

    Args:
        copies: keeps copies of shards from URLs on this machine; None: nothing does.
        open_files: how many files stay open.
        listed: what is known of files at URLs already.
    """

    def __init__(
        self, copies: LocalCopies | None = None, open_files: int = 256, listed: ListedFiles | None = None
    ) -> None:
        self._copies = copies
        self._open_files = open_files
        self._listed = listed or ListedFiles()
        self._local = LocalStorage("", open_files)
        self._resolve_once = lru_cache(1 << 16)(self._locate)
        self._resolve_copy = lru_cache(1 << 16)(self._locate_copy)

    def info(self, location: Location) -> FileInfo:
        """Size and modification time of a file.

        Raises:
            ShardError: the file is missing, or the system refuses to examine it.
        """
        storage, name = self._resolve(str(location))
        try:
            info = self._info(storage, name)
        except OSError as error:
            raise cannot_read(location, error) from None
        if info is None:
            self.read_at_most(location, 0, 1)  # usually fails with the system's reason
            raise ShardError("cannot read a shard", where=str(location), found="not a file")
        return info

    def read(self, location: Location, offset: int, size: int) -> bytes:
        """Read ``size`` bytes of a file from ``offset`` on.

        Raises:
            ShardError: the file is missing, unreadable or too short.
        """
        return _whole(self.read_at_most(location, offset, size), location, offset, size)

    def read_sample(self, location: Location, offset: int, size: int) -> bytes:
        """As ``read``, from a copy on this machine where copies are kept."""
        if self._copies is not None and self._copies.is_awaited(str(location)):
            return self.read(location, offset, size)
        try:
            storage, name = self._resolve_copy(str(location))
            try:
                content = storage.read_range(name, offset, size)
            except FileNotFoundError:
                content = self._read_again(location, offset, size)
        except ShardError:
            raise
        except OSError as error:
            raise cannot_read(location, error) from None
        return _whole(content, location, offset, size)

    def _read_again(self, location: Location, offset: int, size: int) -> bytes:
        """As ``read_sample``, from a copy that has had to make room for others, again and again where that is small."""
        for _ in range(_TRIES):
            self._resolve_copy.cache_clear()
            storage, name = self._resolve_copy(str(location))
            with suppress(FileNotFoundError):
                return storage.read_range(name, offset, size)
        raise ShardError(
            "a copy of a shard is removed before it can be read",
            where=str(location),
            found=f"so {_TRIES} times",
            fix="raise shards.cache_gib: other processes of this machine need all of its room",
        )

    def read_at_most(self, location: Location, offset: int, size: int) -> bytes:
        """As ``read``, but fewer bytes if the file ends before that."""
        storage, name = self._resolve(str(location))
        try:
            return storage.read_range(name, offset, size)
        except OSError as error:
            raise cannot_read(location, error) from None

    def stream(self, location: Location) -> io.BufferedReader:
        """A seekable stream over a file.

        Raises:
            ShardError: the file is missing.
        """
        size = self.info(location).size
        return io.BufferedReader(RangeReader(lambda offset, count: self.read_at_most(location, offset, count), size))

    def info_beside(self, location: Location, suffix: str) -> FileInfo | None:
        """Size and modification time of the file named like the shard, with a suffix appended.

        Returns:
            None if there is none, or it cannot be examined.
        """
        storage, name = self._resolve(str(location))
        try:
            return self._info(storage, name + suffix)
        except OSError:
            return None

    def read_beside(self, location: Location, suffix: str, limit: int) -> bytes | None:
        """The content of the file named like the shard, with a suffix appended.

        Args:
            limit: bytes that it may have.

        Returns:
            None if it cannot be read, or is larger.
        """
        storage, name = self._resolve(str(location))
        try:
            if self._listed.knows(storage.root, name) and self._listed.info(storage.root, name + suffix) is None:
                return None
            content = read_limited(storage, name + suffix, limit)
        except OSError:
            return None
        return content if isinstance(content, bytes) else None

    def can_write_beside(self, location: Location) -> bool:
        """Whether files can be written beside a shard, as far as this is known without trying."""
        storage, name = self._resolve(str(location))
        if not storage.is_local:
            return not storage.root.startswith(WEB) and _folder_of(storage, name) not in _READ_ONLY
        return os.access(os.path.dirname(name) or ".", os.W_OK | os.X_OK)

    def write_beside(self, location: Location, suffix: str, content: bytes) -> None:
        """Write the file named like the shard, with a suffix appended.

        Raises:
            OSError: the storage refuses.
        """
        storage, name = self._resolve(str(location))
        try:
            storage.write(name + suffix, content)
        except OSError:
            if not storage.is_local:
                _READ_ONLY.add(_folder_of(storage, name))
            raise

    def is_local(self, location: Location) -> bool:
        """Whether a shard is read through the file system: from its path, or from a copy of the whole."""
        return self._resolve(str(location))[0].is_local

    def base_name(self, location: Location) -> str:
        """The name of a shard's file without its folder; where a URL is fetched whole, the name of the copy."""
        return self._resolve(str(location))[1].rpartition("/")[2]

    def describe(self, location: Location) -> str:
        """A shard's path or URL, for messages; where a URL is fetched whole, also the file that keeps it."""
        storage, name = self._resolve(str(location))
        return f"{location}, kept as {name}" if is_url(str(location)) and storage.is_local else str(location)

    def close(self) -> None:
        """Close the files that are open."""
        self._local.close()

    def __enter__(self) -> ShardFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[[LocalCopies | None, int], ShardFiles], tuple[LocalCopies | None, int]]:
        return ShardFiles, (self._copies, self._open_files)

    def _info(self, storage: Storage, name: str) -> FileInfo | None:
        if self._listed.knows(storage.root, name):
            return self._listed.info(storage.root, name)
        return storage.info(name)

    def _resolve(self, location: str) -> tuple[Storage, str]:
        """A storage, and the name of the file in it; a URL that no storage serves is fetched first."""
        storage, name = self._resolve_once(location)
        if storage is self._local and is_url(location) and not os.path.exists(name):
            self._resolve_once.cache_clear()  # the copy has had to make room for others
            return self._resolve_once(location)
        return storage, name

    def _locate(self, location: str) -> tuple[Storage, str]:
        if not is_url(location):
            return self._local, location
        return _served(location) or (self._local, str(self._copy(location)))

    def _locate_copy(self, location: str) -> tuple[Storage, str]:
        """The same for samples."""
        if self._copies is None or not self._copies.keeps(location):
            return self._resolve(location)
        self._local.close_removed()
        storage, name = self._resolve(location)
        if storage is self._local and is_url(location):
            return storage, name
        return self._local, str(self._copies.local_path(location, self._info(storage, name)))

    def _copy(self, location: str) -> Path:
        if self._copies is None:
            raise no_cache(location, "no cache_dir, and a server that sends whole files only" * is_served(location))
        return self._copies.local_path(location)


def _served(location: str) -> tuple[Storage, str] | None:
    try:
        return located(location)
    except OSError as error:
        raise cannot_read(location, error) from None


def _folder_of(storage: Storage, name: str) -> str:
    return storage.locate(name).rpartition("/")[0]


def _whole(content: bytes, location: Location, offset: int, size: int) -> bytes:
    if len(content) == size:
        return content
    raise ShardError(
        "a file is shorter than its index says",
        where=str(location),
        found=f"{len(content):,} bytes at byte {offset:,}",
        expected=f"{size:,} bytes",
        fix="the file has changed since it was opened: restore it, then start again",
    )
