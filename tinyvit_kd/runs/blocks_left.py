"""The end of a dump: what was to be made is looked for in the store, not taken for granted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tinyvit_kd.errors import WorkerError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.shared_disks import VISIBLE_WITHIN, await_visible

ROUNDS = 2  # in which blocks that are still missing are made again
BlockId = tuple[int, int]  # shard, view


def blocks_left(missing_blocks: Callable[[], list[BlockId]], job: Job, where: str) -> Iterator[list[BlockId]]:
    """Blocks that are missing after all have been made, round by round, until none is; every process must call.

    That a dump has made all its blocks does not say that the store has them: somebody may have removed some, or a
    disk that is shared may have lost them.

    Args:
        missing_blocks: lists the blocks of this job that the store does not have.
        where: the store, for people.

    Raises:
        WorkerError: blocks are missing still.
    """
    for number in range(ROUNDS + 1):
        left: list[BlockId] = job.broadcast(_settled(missing_blocks, job) if job.is_main else None)
        if not left:
            return
        if number < ROUNDS:
            say(job, f"{len(left):,} block(s) not in the store though they were made: making them again")
            yield left
    raise WorkerError(
        "a dump has made all its blocks, and some are not in the store",
        where=where,
        found=f"{len(left):,} block(s) missing, the first of them view {left[0][1]} of shard {left[0][0]}",
        fix="find out what removes files from the store, then run the same command again: it makes the missing blocks",
    )


def _settled(missing_blocks: Callable[[], list[BlockId]], job: Job) -> list[BlockId]:
    """The missing blocks, after some time for what other machines wrote to become visible here."""
    left = missing_blocks()

    def all_there() -> bool:
        nonlocal left
        left = left and missing_blocks()
        return not left

    if left and job.world_size > 1:
        say(job, f"{len(left):,} block(s) are not seen yet: waiting up to {VISIBLE_WITHIN:.0f} s for the shared disk")
        await_visible(all_there)
    return left
