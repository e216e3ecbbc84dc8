"""A folder with copies of shards, which all processes of a machine share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tinyvit_kd.data.caching.counts import CacheCounts
from tinyvit_kd.data.caching.room import FETCHED, NextUse, Room, fetch_of, index_beside, never, use_of
from tinyvit_kd.data.caching.source import fetch_shard, source_info
from tinyvit_kd.data.locating.remote import cache_name, remove_abandoned
from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.errors import AND_AGAIN, DiskSpaceError, reason_of
from tinyvit_kd.runtime.range_locks import RangeLocks
from tinyvit_kd.runtime.refusals import is_full_disk
from tinyvit_kd.runtime.watchdog import doing
from tinyvit_kd.storage.base import FileInfo

_LOCKS = ".locks"


class Want(NamedTuple):
    """Why a shard is fetched; as it is by default: somebody waits for it.

    Args:
        next_use: which copies are needed when.
        first: the step that needs this shard; None: somebody is waiting for it, so that room is made anyway.
        is_over: whether nobody needs it any more.
        has_room: called once there is room, before the shard is fetched.
    """

    next_use: NextUse = never
    first: float | None = None
    is_over: Callable[[], bool] = lambda: False
    has_room: Callable[[], None] = lambda: None


class ShardCache:
    """Copies of shards on a local disk.

    Of all processes of this machine, one fetches a shard and the others wait for it. If that one is killed, the next
    begins anew. Any thread may use a cache. It travels by pickle; copies of it count together in the processes that
    torch starts.

    Args:
        folder: of the copies.
        limit: bytes that they may take; None: nothing is ever removed.
        copies_paths: whether shards at paths are copied, too, not only those at URLs.
        counts: what happens is added to these.
    """

    def __init__(
        self,
        folder: Path,
        limit: int | None = None,
        copies_paths: bool = False,
        counts: CacheCounts | None = None,
    ) -> None:
        self.folder = folder
        self.limit = limit
        self.copies_paths = copies_paths
        self.counts = counts or CacheCounts()
        self._asked: dict[str, FileInfo | None] = {}  # of shards that are to be fetched ahead
        self._locks = RangeLocks(folder / _LOCKS)
        self._room = Room(folder, limit, self._locks, self.counts)

    def keeps(self, location: str) -> bool:
        """Whether a shard is read through this cache."""
        return self.copies_paths or is_url(location)

    def path(self, location: str) -> Path:
        """Where the copy of a shard is, or would be."""
        return self.folder / self.name(location)

    def name(self, location: str) -> str:
        """The name of a copy."""
        return cache_name(location if is_url(location) else os.path.abspath(location))

    def local_path(self, location: str, info: FileInfo | None = None) -> Path:
        """The file that holds a shard on this machine; it is fetched if it is not there.

        Args:
            info: of the shard where it comes from, if that is known: an older copy is replaced.

        Raises:
            ShardError: it cannot be fetched, or is not a tar.
            DiskSpaceError: the disk is full.
        """
        path = self.path(location)
        if _is_copy(path, info):
            self._note_use(path)
            self.counts.add(hits=1)
            return path
        begin = time.perf_counter()
        self._fetch(location, info, Want())
        self.counts.add(waits=1, waited=round((time.perf_counter() - begin) * 1e6))
        return path

    def is_awaited(self, location: str) -> bool:
        """Whether a run has just begun, and a copy that is on its way is not there yet.

        Samples may then be read where the shard comes from, so that the first batches need not wait for whole shards.
        """
        if not self.counts.begins or self.path(location).exists():
            return False
        self.counts.add(direct=1)
        return True

    def fetch_ahead(self, location: str, want: Want) -> bool:
        """Fetch a shard that is not there, if it is still wanted and there is room for it.

        Returns:
            False if there is no room.

        Raises:
            ShardError, DiskSpaceError: as ``local_path``.
        """
        if want.is_over() or _is_copy(self.path(location), None):
            return True
        if location not in self._asked:
            self._asked[location] = source_info(location)
        done = self._fetch(location, self._asked[location], want)
        if done:
            self._asked.pop(location, None)
        return done

    def hold(self, location: str) -> None:
        """Keep a copy from being removed, whether it is there already or not, until ``let_go``."""
        self._locks.hold(use_of(self.name(location)))

    def let_go(self, location: str) -> None:
        """This process has read what it wanted of a shard."""
        self._note_use(self.path(location))
        self._locks.let_go(use_of(self.name(location)))

    def _fetch(self, location: str, info: FileInfo | None, want: Want) -> bool:
        """Fetch a shard, or wait until another process has; returns False if there is no room.

        Where nobody waits for it yet, it is left to the other process.
        """
        path = self.path(location)
        doing(f"waiting for {location} to be fetched")
        with self._locks.exclusive(fetch_of(path.name), wait=want.first is None) as is_ours:
            if not is_ours:
                self._room.await_reserved(path.name)
                return True
            if _is_copy(path, info) or want.is_over():
                return True
            remove_abandoned(path)
            self._room.remove_leftovers(path.name)
            info = info or source_info(location)
            size = None if info is None else info.size
            if not self._room.reserve(path.name, size, want.next_use, want.first):
                return False
            want.has_room()
            try:
                self._fetch_into(location, path, size, info, want.next_use)
            finally:
                self._room.release(path.name)
        if size is None and self.limit is not None:
            self._room.trim(path.name, want.next_use)
        return True

    def _fetch_into(
        self, location: str, path: Path, size: int | None, info: FileInfo | None, next_use: NextUse
    ) -> None:
        fetched = path.with_name(path.name + FETCHED)
        try:
            try:
                fetch_shard(location, fetched)
            except OSError as error:
                if not is_full_disk(error) or not self._room.evict(size or 1, next_use):
                    raise
                fetch_shard(location, fetched)
        except OSError as error:
            if is_full_disk(error):
                raise self._full(error) from None
            raise
        try:
            _set_time(fetched, path, info)
            self.counts.add(fetched=fetched.stat().st_size)
            os.replace(fetched, path)
        except FileNotFoundError:  # without locks, another process has fetched the same shard, and moved this one
            if not _is_copy(path, info):
                raise

    def _full(self, error: OSError) -> DiskSpaceError:
        return DiskSpaceError(
            "the disk of the cache of shards is full",
            where=str(self.folder),
            found=reason_of(error),
            fix=f"free some space, choose another shards.cache_dir, or lower shards.cache_gib, {AND_AGAIN}"
            if self.limit is not None
            else f"free some space, choose another shards.cache_dir, or set shards.cache_gib, {AND_AGAIN}",
        )

    def _note_use(self, path: Path) -> None:
        if self.limit is not None:
            with suppress(OSError):  # it has been removed, or belongs to another user
                os.utime(path, ns=(time.time_ns(), path.stat().st_mtime_ns))

    def __reduce__(self) -> tuple[Callable[..., ShardCache], tuple[Path, int | None, bool, CacheCounts]]:
        return ShardCache, (self.folder, self.limit, self.copies_paths, self.counts)


def _is_copy(path: Path, info: FileInfo | None) -> bool:
    """Whether a copy is there, and is not older than the shard."""
    try:
        status = path.stat()
    except OSError:
        return False
    return info is None or (status.st_size == info.size and status.st_mtime_ns >= info.modified_ns)


def _set_time(fetched: Path, path: Path, info: FileInfo | None) -> None:
    """A copy is as old as the one that it follows, whose index is there, and never older than the shard."""
    now = fetched.stat().st_mtime_ns
    if info is not None:
        wanted = max(now, info.modified_ns)  # this machine's clock may be behind
    else:
        try:
            wanted = index_beside(path).stat().st_mtime_ns
        except OSError:
            return
    os.utime(fetched, ns=(time.time_ns(), wanted))
