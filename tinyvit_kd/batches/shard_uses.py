"""Which steps read which shards, so that shards can be fetched before that."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.data.caching.ahead import Use


class PlannedUses:
    """The shards that the steps of a training run read.

    Args:
        plan: of this rank.
        locations: of the shards.
        steps: the steps of the run that are left.
        lanes: of all ranks of this machine, whose caches are one.
    """

    def __init__(self, plan: StepPlan, locations: Sequence[str], steps: range, lanes: range) -> None:
        self._plan = plan
        self._locations = locations
        self._steps = steps
        self._lanes = lanes
        self._numbers = {location: shard for shard, location in enumerate(locations)}
        self._spans_of = lru_cache(3)(self._read_spans)

    def __iter__(self) -> Iterator[Use]:
        """The uses of this rank, in the order of their first steps."""
        for epoch in itertools.count(self._steps.start // self._plan.steps_per_epoch):
            for first, last, shard in self._plan.shard_uses(epoch, self._plan.lanes):
                if first >= self._steps.stop:
                    return
                if last >= self._steps.start:
                    yield Use(first, last, self._locations[shard])

    def next_use(self, location: str, step: int) -> float:
        """The step from ``step`` on that needs a shard next on this machine, as far as the end of the next epoch."""
        step = max(step, self._steps.start)
        shard, epoch = self._numbers[location], step // self._plan.steps_per_epoch
        for each in (epoch, epoch + 1):
            for first, last in self._spans_of(each).get(shard, ()):
                if last >= step and first < self._steps.stop:
                    return max(first, step)
        return math.inf

    def _read_spans(self, epoch: int) -> dict[int, list[tuple[int, int]]]:
        spans: dict[int, list[tuple[int, int]]] = {}
        for first, last, shard in self._plan.shard_uses(epoch, self._lanes):
            spans.setdefault(shard, []).append((first, last))
        return spans


def uses_of(locations: Iterable[str]) -> Iterator[Use]:
    """The uses of tasks that read one shard each, given the location for each task, from task 0 on."""
    number = 0
    for location, tasks in itertools.groupby(locations):
        count = sum(1 for _ in tasks)
        yield Use(number, number + count - 1, location)
        number += count
