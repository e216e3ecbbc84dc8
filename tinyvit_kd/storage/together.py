"""Several requests to a storage at a time, as many as it is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from tinyvit_kd.runtime.parallel import in_order
from tinyvit_kd.storage.base import Storage

T = TypeVar("T")
R = TypeVar("R")


def together(storage: Storage, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results of a function that asks a storage, in the order of ``items``, which are taken a few ahead.

    In threads where a storage answers many requests at a time; one after the other where it does not.
    """
    if storage.at_a_time == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(storage.at_a_time, thread_name_prefix="requests") as pool:
        yield from in_order(pool, function, items, 2 * storage.at_a_time - 1)
