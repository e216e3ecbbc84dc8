"""Puts a cache of shards beside a loader: the shards of coming tasks are fetched while those before them are made."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tinyvit_kd.batches.dump_tasks import Group
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.caching.ahead import FetchAhead, Use, unknown
from tinyvit_kd.data.shards import ShardSet

T = TypeVar("T")


@contextmanager
def fetching_ahead(shards: ShardSet, next_use: Callable[[str, int], float] = unknown) -> Iterator[FetchAhead | None]:
    """Threads that fetch shards into the cache of a shard set; None where it has none.

    Args:
        next_use: see ``FetchAhead``.
    """
    cache = shards.cache
    if cache is None or not any(map(cache.keeps, shards.locations)):
        yield None
        return
    with FetchAhead(cache, next_use) as ahead:
        ahead.knows(shards.locations)
        yield ahead


def following(
    ahead: FetchAhead | None,
    tasks: Iterable[T],
    uses: Iterable[Use],
    runtime: RuntimeConfig,
    width: int = 2,
    first: int = 0,
) -> Iterable[T]:
    """Tasks as they are; as the loader takes them, the shards of those that follow are fetched.

    Args:
        ahead: None: there is no cache.
        uses: of the tasks, in the order of their first ones.
        width: shards that are fetched before they are needed.
        first: the number of the first task.
    """
    return tasks if ahead is None else _followed(ahead, tasks, iter(uses), issued(runtime), width, first)


def _followed(
    ahead: FetchAhead, tasks: Iterable[T], uses: Iterator[Use], issued: int, width: int, first: int
) -> Iterator[T]:
    coming: deque[Use] = deque()
    for number, task in enumerate(tasks, first):
        while coming and coming[0].first <= number:
            coming.popleft()
        while len(coming) < width and (use := next(uses, None)) is not None:
            ahead.expect(use)
            if use.first > number:
                coming.append(use)
        ahead.reached(number, done=number - issued)
        ahead.start()
        yield task


@contextmanager
def groups_with_shards(
    shards: ShardSet, groups: Iterator[Group], runtime: RuntimeConfig, batch: int
) -> Iterator[Iterator[Group]]:
    """Groups of a dump as they are. Where there is a cache, each is claimed one earlier, and its shard is fetched.

    Args:
        groups: those that this process claims, as it asks for them.
        batch: views of a task.
    """
    with fetching_ahead(shards) as ahead:
        yield groups if ahead is None else _taken_early(ahead, groups, shards.locations, issued(runtime) * batch)


def _taken_early(
    ahead: FetchAhead, groups: Iterator[Group], locations: tuple[str, ...], issued_views: int
) -> Iterator[Group]:
    being_made: deque[tuple[int, int]] = deque()  # numbers of groups and their views, which may not be done yet
    expected = 0
    group = next(groups, None)
    for number in itertools.count():
        if group is None:
            return
        following = next(groups, None)
        for each in (group, following)[expected - number :]:
            if each is not None:
                ahead.expect(Use(expected, expected, locations[each.shard]))
                expected += 1
        while being_made and sum(views for _, views in being_made) - being_made[0][1] > issued_views:
            being_made.popleft()
        ahead.reached(number, done=being_made[0][0] if being_made else number)
        ahead.start()
        being_made.append((number, group.samples * len(group.views)))
        yield group
        group = following


def issued(runtime: RuntimeConfig) -> int:
    """How many tasks before the latest one may still be in work."""
    return runtime.workers * runtime.prefetch + 1
