"""Checks that lanes, batch size, micro-batch size and number of processes fit together."""

from __future__ import annotations

from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.data.order import check_lanes
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.wording import counted


def check_schedule(schedule: ScheduleConfig, shards: ShardSet, job: Job) -> None:
    """Check lanes, batch and micro-batch against the world size and the number of samples.

    Raises:
        ConfigError: they do not fit; it names values that do.
    """
    check_lanes(schedule.lanes, schedule.global_batch_size, job.world_size, schedule.views_per_sample)
    micro_batches(schedule, job)
    require_full_step(schedule, shards)


def require_full_step(schedule: ScheduleConfig, shards: ShardSet) -> None:
    """Check that the samples fill one step.

    Raises:
        ConfigError: there are fewer.
    """
    needed = schedule.global_batch_size // schedule.views_per_sample
    if shards.total < needed:
        raise ConfigError(
            "the shard set is too small for one step per epoch",
            where="schedule.global_batch_size",
            found=f"{needed} samples per step, {shards.total} samples in {shards.name}",
            fix="lower schedule.global_batch_size (and schedule.lanes)",
        )


def micro_batches(schedule: ScheduleConfig, job: Job) -> int:
    """Forward and backward passes per step in each process.

    Raises:
        ConfigError: a process's share of a batch is not a whole number of micro-batches.
    """
    local = schedule.global_batch_size // job.world_size
    size = schedule.micro_batch_size or local
    if local % size:
        raise ConfigError(
            "a process's share of a batch is not a whole number of micro-batches",
            where="schedule.micro_batch_size",
            found=f"{local} samples on each of {counted(job.world_size, 'process')}, in micro-batches of {size}",
            expected=f"a divisor of {local}",
        )
    return local // size
