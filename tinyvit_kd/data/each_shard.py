"""Work on each shard of a set in turn; on many at a time where each answer takes its time to come."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias, TypeVar

from tinyvit_kd.data.locating.fetch_errors import cannot_read
from tinyvit_kd.data.locating.listed import ListedFiles, list_folders
from tinyvit_kd.data.locating.served import is_served
from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.runtime.parallel import in_order

AT_A_TIME = 32
"""Shards at URLs that are looked at concurrently. An index of 5,000 samples has about 0.2 MB."""

T = TypeVar("T")
Results: TypeAlias = Generator[T, None, None]


def each_shard(
    locations: Sequence[str], work: Callable[[int, ShardFiles], T], files: Callable[[ListedFiles | None], ShardFiles]
) -> Results[T]:
    """Results of ``work`` for each shard, in order.

    Folders at URLs are listed once, and ``work`` runs in threads; for local shards it runs in this thread, one after
    the other.

    Args:
        work: takes the number of a shard, and what reads it.
        files: makes what reads shards, given what is known of their files.

    Raises:
        ShardError: a service does not answer, or refuses.
    """
    if not any(map(is_served, locations)):
        with files(None) as own:
            for shard in range(len(locations)):
                yield work(shard, own)
        return
    try:
        listed = list_folders(locations)
    except OSError as error:
        raise cannot_read(locations[0], error) from None
    yield from _in_threads(len(locations), work, lambda: files(listed))


def _in_threads(count: int, work: Callable[[int, ShardFiles], T], files: Callable[[], ShardFiles]) -> Results[T]:
    here = threading.local()
    opened: list[ShardFiles] = []

    def open_here() -> None:
        here.files = files()
        opened.append(here.files)

    try:
        with ThreadPoolExecutor(min(AT_A_TIME, count), "shards", open_here) as pool:
            yield from in_order(pool, lambda shard: work(shard, here.files), range(count), 2 * AT_A_TIME)
    finally:
        for each in opened:
            each.close()
