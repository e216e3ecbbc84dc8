"""Reads a shard at a URL from front to back, in large parts that are asked for ahead of time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.storage.base import FileInfo

PART = 4 << 20  # bytes of one request
_AHEAD = 3  # parts that are asked for while one is read
_KEPT = 2  # parts behind the present one: labels are read once the whole sample is known


@contextmanager
def reading_ahead(files: ShardFiles, location: Location) -> Iterator[ShardFiles]:
    """Files for going through one shard: what is read next is there already; a local shard is read as it is.

    At most six parts of 4 MiB are in memory. What is read elsewhere than ahead of the last read is asked for by itself.
    """
    if files.is_local(location):
        yield files
        return
    with ThreadPoolExecutor(_AHEAD, thread_name_prefix="reading-ahead") as pool:
        ahead = _ReadAhead(files, location, pool)
        try:
            yield ahead
        finally:
            ahead.close()
            pool.shutdown(cancel_futures=True)


class _ReadAhead(ShardFiles):
    """Reads one file by a window of parts that moves on with what is read.

    Args:
        files: reads the file; its storage may be used by several threads.
        location: of the file.
        pool: asks for the parts.
    """

    def __init__(self, files: ShardFiles, location: Location, pool: ThreadPoolExecutor) -> None:
        super().__init__()
        self._files, self._location, self._pool = files, location, pool
        self._info_of_file = files.info(location)
        self._parts: dict[int, Future[bytes]] = {}

    def info(self, location: Location) -> FileInfo:
        """As ``ShardFiles.info``, as it was at first."""
        assert location == self._location
        return self._info_of_file

    def describe(self, location: Location) -> str:
        """As ``ShardFiles.describe``."""
        return self._files.describe(location)

    def read_at_most(self, location: Location, offset: int, size: int) -> bytes:
        """As ``ShardFiles.read_at_most``, from the window."""
        end = min(offset + size, self._info_of_file.size)
        if end <= offset:
            return b""
        first, last = offset // PART, (end - 1) // PART
        if first < min(self._parts, default=0):
            return self._files.read_at_most(location, offset, end - offset)
        pieces = []
        for part in range(first, last + 1):
            start = part * PART
            content = self._part(part)
            pieces.append(content[max(0, offset - start) : end - start])
        return b"".join(pieces)

    def _part(self, number: int) -> bytes:
        """A part, after those behind it have been asked for, and those long before it forgotten."""
        count = -(-self._info_of_file.size // PART)
        for old in [each for each in self._parts if each < number - _KEPT]:
            self._parts.pop(old).cancel()
        for each in range(number, min(number + 1 + _AHEAD, count)):
            if each not in self._parts:
                self._parts[each] = self._pool.submit(self._fetch, each)
        return self._parts[number].result()

    def _fetch(self, number: int) -> bytes:
        size = min(PART, self._info_of_file.size - number * PART)
        return self._files.read(self._location, number * PART, size)
