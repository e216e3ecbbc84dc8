"""Fetches the next shards of a process while the present ones are read, and lets go of those that it has read."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple

from tinyvit_kd.data.caching.shard_cache import ShardCache, Want
from tinyvit_kd.errors import TinyVitKdError
from tinyvit_kd.runtime.log import warn_once

_THREADS = 2  # shards that are fetched at the same time
_LOOK_AGAIN = 1.0  # seconds after which a shard that found no room is tried again: other processes make room, too


class Use(NamedTuple):
    """A shard, and the steps that read it: from ``first`` to ``last``."""

    first: int
    last: int
    location: str


def unknown(_location: str, _step: int) -> float:
    """Nobody knows when a shard is needed again."""
    return math.inf


class FetchAhead:
    """Threads that fetch shards in the order in which they are needed.

    The process says which shards it will need (``expect``) and how far it is (``reached``). The shards that it reads
    are held until then, so that no process of this machine removes them. A shard that is not needed yet is fetched only
    if nothing has to go for it that is needed earlier. What cannot be fetched is left to those that read it, who fail.

    Args:
        cache: where to.
        next_use: from a shard's location and the step that has been reached to the step that needs it next, by any
            process of this machine; infinite where none is known to.
        threads: shards that are fetched at the same time.
    """

    def __init__(
        self, cache: ShardCache, next_use: Callable[[str, int], float] = unknown, threads: int = _THREADS
    ) -> None:
        self._cache = cache
        self._next_use = next_use
        self._locations: dict[str, str] = {}  # by the name of the copy
        self._queue: deque[Use] = deque()
        self._later: deque[Use] = deque()  # not held yet
        self._held: list[Use] = []
        self._coming: dict[str, list[int]] = {}  # by the name of a copy: first steps of uses that are not over
        self._step = -1
        self._first: set[Use] = set()  # that the first step needs and that are not there yet
        self._let_go = 0  # how often
        self._choosing: Use | None = None  # looks for room; those after it must not take that
        self._ended = False
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._work, name="fetch-ahead", daemon=True) for _ in range(threads)]

    def expect(self, use: Use) -> None:
        """Note the next use; they come in the order of their first steps."""
        with self._changed:
            self._queue.append(use)
            self._later.append(use)
            self._coming.setdefault(self._cache.name(use.location), []).append(use.first)
            self._changed.notify_all()

    def knows(self, locations: tuple[str, ...]) -> None:
        """Name the shards that ``next_use`` knows of."""
        self._locations = {self._cache.name(location): location for location in locations}

    def start(self) -> None:
        """Begin to fetch."""
        if self._threads[0].ident is None:
            with self._changed:
                self._first = {use for use in self._queue if use.first <= self._step}
                self._cache.counts.begins = bool(self._first)
            for thread in self._threads:
                thread.start()

    def reached(self, step: int, done: int) -> None:
        """Note that a step has begun, and that none before step ``done`` will read anything more."""
        with self._changed:
            self._step = step
            self._changed.notify_all()
        while self._later and self._later[0].first <= step:
            self._held.append(self._later.popleft())
            self._cache.hold(self._held[-1].location)
        for use in [use for use in self._held if use.last < done]:
            self._held.remove(use)
            self._cache.let_go(use.location)
            self._over(use)

    def close(self) -> None:
        """Let go of everything, and end; a shard that is being fetched is left to be finished."""
        with self._changed:
            self._ended = True
            self._cache.counts.begins = False
            self._changed.notify_all()
        while self._held:
            self._cache.let_go(self._held.pop().location)
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def __enter__(self) -> FetchAhead:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        while (use := self._take()) is not None:
            try:
                fetched = self._fetch(use)
            except (TinyVitKdError, OSError) as error:
                warn_once(("fetched ahead", type(error)), f"a shard cannot be fetched ahead of its use: {error}")
                fetched = True
            if not fetched:
                self._put_back(use)
            else:
                self._is_there(use)
            self._has_room(use)

    def _take(self) -> Use | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or (self._queue and self._choosing is None))
            self._choosing = None if self._ended else self._queue.popleft()
            return self._choosing

    def _fetch(self, use: Use) -> bool:
        step = self._step
        want = Want(
            next_use=lambda name: self._next_use_of(name, step),
            first=None if use.first <= step else use.first,
            is_over=lambda: self._is_over(use),  # those who read it were faster than this thread
            has_room=lambda: self._has_room(use),
        )
        return self._cache.fetch_ahead(use.location, want)

    def _is_over(self, use: Use) -> bool:
        with self._changed:
            return use.first not in self._coming.get(self._cache.name(use.location), ())

    def _is_there(self, use: Use) -> None:
        with self._changed:
            if use in self._first:
                self._first.remove(use)
                self._cache.counts.begins = bool(self._first)

    def _has_room(self, use: Use) -> None:
        with self._changed:
            if self._choosing is use:
                self._choosing = None
                self._changed.notify_all()

    def _put_back(self, use: Use) -> None:
        """There is no room for a use: wait until there may be."""
        with self._changed:
            self._queue.appendleft(use)
            before = self._let_go
            self._changed.wait_for(lambda: self._ended or self._let_go > before, _LOOK_AGAIN)

    def _over(self, use: Use) -> None:
        name = self._cache.name(use.location)
        with self._changed:
            self._coming[name].remove(use.first)
            if not self._coming[name]:
                del self._coming[name]
            self._let_go += 1
            self._changed.notify_all()

    def _next_use_of(self, name: str, step: int) -> float:
        with self._changed:
            if name in self._coming:
                return min(self._coming[name])
        location = self._locations.get(name)
        return math.inf if location is None else self._next_use(location, step)
