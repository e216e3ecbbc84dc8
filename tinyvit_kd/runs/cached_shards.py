"""The cache of shards beside a run: room for what it reads at once, what is next, and what it says of itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.shard_uses import PlannedUses
from tinyvit_kd.batches.shards_ahead import fetching_ahead, following, issued
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.caching.counts import Counted
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.launch import place_in_job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.wording import binary_size, counted, duration

_MEMBER = 1 << 10  # bytes of a tar that each sample takes beside its image, about: headers and padding


def is_cached(shards: ShardSet) -> bool:
    """Whether any of the shards is read from a copy."""
    return shards.cache is not None and any(map(shards.cache.keeps, shards.locations))


@contextmanager
def steps_with_shards(
    shards: ShardSet, plan: StepPlan, steps: range, runtime: RuntimeConfig, job: Job, begins: bool = True
) -> Iterator[Iterable[int]]:
    """The steps of a run for its loader; as it takes them, the shards of those that follow are fetched.

    Args:
        begins: whether the run begins here: it is refused then if the cache has too little room, and later no more.

    Raises:
        ConfigError: the cache has no room for what this machine's ranks read at once.
    """
    lanes = lanes_here(plan, job)
    uses = PlannedUses(plan, shards.locations, steps, lanes)
    if begins and is_cached(shards) and steps:
        _require_room(shards, plan, steps.start // plan.steps_per_epoch, lanes, issued(runtime))
    with fetching_ahead(shards, uses.next_use) as ahead:
        yield following(ahead, steps, uses, runtime, width=max(2, len(plan.lanes)), first=steps.start)


def turns_with_shards(
    shards: ShardSet, plan: StepPlan, turns: Iterator[range], runtime: RuntimeConfig, job: Job
) -> Generator[Iterable[int], None, None]:
    """As ``steps_with_shards``, for steps that come turn by turn: nothing is fetched for a turn that is waited for."""
    for number, steps in enumerate(turns):
        with steps_with_shards(shards, plan, steps, runtime, job, begins=number == 0) as tasks:
            yield tasks


def lanes_here(plan: StepPlan, job: Job) -> range:
    """The lanes of all ranks of this machine, as far as its launcher says who they are."""
    if job.world_size == 1:
        return plan.lanes
    place = place_in_job(os.environ)
    first = max(0, job.rank - place.local_rank)
    last = min(job.world_size, first + place.local_world_size) - 1
    lanes = [rank_lanes(plan.schedule.lanes, rank, job.world_size) for rank in (first, last)]
    return range(lanes[0].start, lanes[1].stop)


def bytes_at_once(shards: ShardSet, plan: StepPlan, epoch: int, lanes: range, steps: int) -> int:
    """Bytes of the shards that some lanes read at the same time in an epoch, at most, about.

    Args:
        steps: how many consecutive steps are in work at the same time.
    """
    sizes = _sizes(shards).tolist()
    changes: list[tuple[int, bool, int]] = []
    for first, last, shard in plan.shard_uses(epoch, lanes):
        changes += [(first, True, shard), (last + steps, False, shard)]
    readers: dict[int, int] = {}
    now = most = 0
    for _, begins, shard in sorted(changes):
        readers[shard] = readers.get(shard, 0) + (1 if begins else -1)
        if readers[shard] == (1 if begins else 0):
            now += sizes[shard] if begins else -sizes[shard]
        most = max(most, now)
    return most


def _sizes(shards: ShardSet) -> npt.NDArray[np.int64]:
    """Bytes of the tars, about: int64 [shards]."""
    assert shards.known is not None
    return shards.known.image_bytes + shards.known.samples * _MEMBER


def _require_room(shards: ShardSet, plan: StepPlan, epoch: int, lanes: range, steps: int) -> None:
    limit = None if shards.cache is None else shards.cache.limit
    if limit is None or shards.known is None:
        return
    needed = bytes_at_once(shards, plan, epoch, lanes, steps)
    largest = int(_sizes(shards).max())
    if needed <= limit:
        return
    advised = (needed + 2 * largest) * 1.1 / 2**30
    raise ConfigError(
        "the cache of shards has no room for those that this machine reads at once",
        where="shards.cache_gib",
        found=f"{limit / 2**30:.3g} GiB",
        expected=f"at least {needed / 2**30:.3g} GiB: {counted(len(lanes), 'lane')} on this machine, each of which "
        f"reads up to two shards at a time, or more where schedule.window is longer than a shard",
        fix=f"set shards.cache_gib to {advised:.2g} or more, so that there is room for the next shards, too; or to "
        "null if the disk has room for all of them",
    )


def counted_by(shards: ShardSet) -> Callable[[], dict[str, float]]:
    """What a rank logs of its cache of shards; nothing where there is none."""
    if not is_cached(shards) or shards.cache is None:
        return dict
    return shards.cache.counts.since_last


def say_cached(shards: ShardSet, job: Job) -> None:
    """Say what came of the cache of shards, over all ranks; every process must call."""
    if not is_cached(shards) or shards.cache is None:
        return
    totals = [sum(column) for column in zip(*job.gather(tuple(shards.cache.counts.total())), strict=True)]
    total = Counted(*totals)
    gone = f", {binary_size(total.evicted)} made room" if total.evicted else ""
    say(
        job,
        f"shards in {shards.cache.folder}: {binary_size(total.fetched)} fetched{gone}; "
        f"{counted(total.hits + total.waits, 'opening')}, of which {total.waits:,} waited, "
        f"{duration(total.waited / 1e6)} in all",
    )
