"""The end of a dump: what was to be made is looked for in the store, not taken for granted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from tinyvit_kd.errors import WorkerError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.shared_disks import VISIBLE_WITHIN, await_visible

ROUNDS = 2  # in which blocks that are still missing are made again
Bool = npt.NDArray[np.bool_]


def blocks_left(missing_table: Callable[[], Bool], job: Job, where: str) -> Iterator[Bool]:
    """Blocks that are missing after all have been made, round by round, until none is; every process must call.

    That a dump has made all its blocks does not say that the store has them: somebody may have removed some, or a
    disk that is shared may have lost them.

    Args:
        missing_table: which blocks of this job the store does not have: bool [shards, views].
        where: the store, for people.

    Raises:
        WorkerError: blocks are missing still.
    """
    for number in range(ROUNDS + 1):
        left: Bool = job.broadcast(_settled(missing_table, job) if job.is_main else None)
        count = int(left.sum())
        if not count:
            return
        if number < ROUNDS:
            say(job, f"{count:,} block(s) not in the store though they were made: making them again")
            yield left
    shard, view = np.argwhere(left)[0].tolist()
    raise WorkerError(
        "a dump has made all its blocks, and some are not in the store",
        where=where,
        found=f"{count:,} block(s) missing, the first of them view {view} of shard {shard}",
        fix="find out what removes files from the store, then run the same command again: it makes the missing blocks",
    )


def _settled(missing_table: Callable[[], Bool], job: Job) -> Bool:
    """The missing blocks, after some time for what other machines wrote to become visible here."""
    left = missing_table()

    def all_there() -> bool:
        nonlocal left
        left = missing_table()
        return not left.any()

    if left.any() and job.world_size > 1:
        say(job, f"{left.sum():,} block(s) are not seen yet: waiting up to {VISIBLE_WITHIN:.0f} s for the shared disk")
        await_visible(all_there)
    return left
