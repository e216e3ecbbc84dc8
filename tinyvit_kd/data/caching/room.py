"""What the folder of a cache holds, and which copies go when another one needs their room."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tinyvit_kd.data.caching.counts import CacheCounts
from tinyvit_kd.data.locating.patterns import INDEX_SUFFIX
from tinyvit_kd.runtime.log import warn_once
from tinyvit_kd.runtime.range_locks import RangeLocks
from tinyvit_kd.runtime.wording import binary_size

FETCHED, RESERVED = ".fetched", ".reserved"
_BEGINS, _POLL = 1.0, 0.005  # seconds from the right to fetch a copy to its reservation at most, and between two looks
NextUse = Callable[[str], float]
"""From the name of a copy to the number of the step that needs it next; infinite where none is known to."""

_OURS = re.compile(r"\.?[0-9a-f]{16}-.")  # names that ``cache_name`` makes; other files in the folder are not touched
_UNDER_WAY = re.compile(rf"\.?([0-9a-f]{{16}}-.*?)(?:{re.escape(FETCHED)}(?:\.\w+\.partial)?|{re.escape(RESERVED)})$")


class Copy(NamedTuple):
    """A file of the cache."""

    name: str
    size: int  # bytes
    used_ns: int  # when it was last opened, fetched or let go


def never(_name: str) -> float:
    """No copy is known to be needed again."""
    return math.inf


class Room:
    """Keeps the copies in a folder within a limit.

    A copy that a process holds (``use_of`` its name) is left alone. Of the others, those go first that are needed last.

    Args:
        folder: of the copies.
        limit: bytes that they may take; None: nothing is ever removed.
        locks: of the folder.
        counts: told of what is removed.
    """

    def __init__(self, folder: Path, limit: int | None, locks: RangeLocks, counts: CacheCounts) -> None:
        self._folder = folder
        self._limit = limit
        self._locks = locks
        self._counts = counts

    def reserve(self, name: str, size: int | None, next_use: NextUse, first: float | None = None) -> bool:
        """Make room for a copy, and note that it is on its way until ``release`` is called.

        Args:
            size: bytes; None: as many as the largest copy has, as nobody knows.
            next_use: which copies are needed when.
            first: the step that needs this copy: copies that are needed before it stay, and where that leaves too
                little room it is refused. None: somebody is waiting for it, so that it is not.

        Returns:
            False if it is refused.
        """
        if self._limit is None:
            return True
        self._folder.mkdir(parents=True, exist_ok=True)  # somebody may have removed it
        with self._locks.exclusive("room"):
            present, under_way = self._scan()
            size = max((copy.size for copy in present), default=0) if size is None else size
            excess = sum(copy.size for copy in present) + sum(under_way.values()) + size - self._limit
            others = [copy for copy in present if copy.name != name]
            if not self._evict(others, excess, next_use, first):
                return False
            with self._reserved(name).open("wb") as file:
                file.truncate(size)  # it takes no space: only its length counts
        return True

    def await_reserved(self, name: str) -> None:
        """Wait a moment until whoever has begun to fetch a copy has reserved its room, which must not be taken then."""
        deadline = time.monotonic() + _BEGINS
        while self._limit is not None and time.monotonic() < deadline:
            if self._reserved(name).exists() or (self._folder / name).exists():
                return
            time.sleep(_POLL)

    def release(self, name: str) -> None:
        """The copy is there, or will not come."""
        if self._limit is None:
            return
        with self._locks.exclusive("room"):  # who lists the folder meanwhile might see neither the note nor the copy
            self._reserved(name).unlink(missing_ok=True)

    def evict(self, size: int, next_use: NextUse) -> bool:
        """Remove copies of at least ``size`` bytes, as far as nobody holds them; returns whether any was removed."""
        if self._limit is None:
            return False
        with self._locks.exclusive("room"):
            before = self._counts.total().evicted
            self._evict(self._scan()[0], size, next_use, None)
            return self._counts.total().evicted > before

    def trim(self, name: str, next_use: NextUse) -> None:
        """Remove what is too much now that a copy is there whose size nobody knew; the copy itself stays."""
        if self._limit is None:
            return
        with self._locks.exclusive("room"):
            present, under_way = self._scan()
            excess = sum(copy.size for copy in present) + sum(under_way.values()) - self._limit
            self._evict([copy for copy in present if copy.name != name], excess, next_use, None)

    def remove_leftovers(self, name: str) -> None:
        """Remove what killed processes left of a copy; the caller has the right to fetch it."""
        if not self._locks.work:  # then others may have it, too; what is old is removed by ``remove_abandoned``
            return
        for path in self._folder.glob(f"*{name}*"):
            if _UNDER_WAY.match(path.name):
                path.unlink(missing_ok=True)

    def _scan(self) -> tuple[list[Copy], dict[str, int]]:
        """Copies, with their indexes, and the sizes of those that are on their way; leftovers are removed."""
        present: list[Copy] = []
        under_way: dict[str, int] = {}
        for entry, info in self._entries():
            match = _UNDER_WAY.match(entry.name)
            if match is None:
                present.append(Copy(entry.name, info.st_size, info.st_atime_ns))
            elif match[1] in under_way or not self._removed_as_left(match[1]):
                under_way[match[1]] = max(under_way.get(match[1], 0), info.st_size)
        for copy in present:
            under_way.pop(copy.name, None)  # it has just come
        return present, under_way

    def _entries(self) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        with os.scandir(self._folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    if _OURS.match(entry.name) and entry.is_file(follow_symlinks=False):
                        yield entry, entry.stat(follow_symlinks=False)

    def _removed_as_left(self, name: str) -> bool:
        """Remove what a killed process left of a copy; returns False where it is being fetched, or nobody knows."""
        with self._locks.exclusive(fetch_of(name), wait=False) as is_free:
            if is_free:  # as long as that is so, nobody begins to fetch it
                self.remove_leftovers(name)
            return is_free and self._locks.work

    def _evict(self, copies: list[Copy], excess: int, next_use: NextUse, first: float | None) -> bool:
        """Remove copies of ``excess`` bytes; returns False if it must not be, and then removes none."""
        if excess <= 0:
            return True
        needed = {copy.name: next_use(copy.name) for copy in copies if not copy.name.endswith(INDEX_SUFFIX)}
        later = (name for name, step in needed.items() if first is None or step > first)
        allowed = {name for name in later if not name.startswith(".") and not self._is_held(name)}
        candidates = [copy for copy in copies if copy.name in allowed]
        if first is not None and sum(copy.size for copy in candidates) < excess:
            return False
        for copy in sorted(candidates, key=lambda copy: (-needed[copy.name], copy.used_ns)):
            if excess > 0 and self._remove(copy):
                excess -= copy.size
        if excess > 0 and self._limit is not None:
            warn_once(
                ("cache too small", self._folder),
                f"{self._folder} holds more than shards.cache_gib allows ({binary_size(self._limit)}): all of its "
                "shards are being read",
            )
        return True

    def _is_held(self, name: str) -> bool:
        with self._locks.unless_held(use_of(name)) as is_free:
            return not is_free

    def _remove(self, copy: Copy) -> bool:
        path = self._folder / copy.name
        with self._locks.unless_held(use_of(copy.name)) as is_free:
            if not is_free:
                return False
            with suppress(FileNotFoundError):
                _keep_time_of(path)
                path.unlink()
            self._counts.add(evicted=copy.size)
        return True

    def _reserved(self, name: str) -> Path:
        return self._folder / f".{name}{RESERVED}"


def fetch_of(name: str) -> str:
    """The lock of who fetches a copy."""
    return f"fetch {name}"


def use_of(name: str) -> str:
    """The lock of those who read a copy, or soon will."""
    return f"use {name}"


def _keep_time_of(copy: Path) -> None:
    """An index beside a copy is that of a file with its time, so it keeps that until the copy is fetched again."""
    with suppress(OSError):
        os.utime(index_beside(copy), ns=(time.time_ns(), copy.stat().st_mtime_ns))


def index_beside(copy: Path) -> Path:
    """Where the index of a copy may be; those of shards that are read through a storage are elsewhere."""
    return copy.with_name(copy.name + INDEX_SUFFIX)
