"""Reads the files of blocks in a few threads, while the blocks before them are being checked."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from tinyvit_kd.errors import StoreError
from tinyvit_kd.runtime.parallel import in_order, require_threads
from tinyvit_kd.store.arrays import array_shape
from tinyvit_kd.store.chunks import largest_file
from tinyvit_kd.store.store import LogitStore

_THREADS = 4  # a disk in a network takes milliseconds for a file, and answers several at a time
_FILES = 8  # that a thread reads at a time, since handing over costs as much as a small file
_BYTES = 1 << 23  # that a thread reads at a time, though at least one file


@dataclass(frozen=True)
class Read:
    """What came of reading a block's file: its content or an error."""

    content: bytes = b""
    error: StoreError | OSError | MemoryError | None = None

    @classmethod
    def of(cls, store: LogitStore, shard: int, view: int) -> Read:
        """Read a block's file."""
        try:
            return cls(store.read_file(shard, view))
        except (StoreError, OSError, MemoryError) as error:
            return cls(error=error)

    def result(self) -> bytes:
        """The content; raises the error."""
        if self.error is not None:
            raise self.error
        return self.content


def read_ahead(store: LogitStore, shard: int, views: list[int]) -> Iterator[tuple[int, Read]]:
    """Each view with what came of reading its block's file, in the order of ``views``."""
    _, rows, length = array_shape(store.manifest, shard)
    largest = 1 if store.storage.at_a_time > 1 else _FILES  # what waits for a network is spread over all threads
    files = max(1, min(largest, _BYTES // largest_file((rows, length))))
    groups = [views[first : first + files] for first in range(0, len(views), files)]

    def read(group: list[int]) -> list[Read]:
        return [Read.of(store, shard, view) for view in group]

    threads = max(_THREADS, store.storage.at_a_time)
    if len(groups) < 2 or not _may_start(threads):
        yield from ((view, Read.of(store, shard, view)) for view in views)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="read-ahead") as pool:
        for group, reads in zip(groups, in_order(pool, read, groups, threads), strict=True):
            yield from zip(group, reads, strict=True)


def _may_start(threads: int) -> bool:
    try:
        require_threads(threads)
    except RuntimeError:
        return False
    return True
