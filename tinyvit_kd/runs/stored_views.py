"""Decides which of a store's views a run uses, and checks that they are all present."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyvit_kd.batches.view_schedule import ViewCounts, ViewSchedule
from tinyvit_kd.config.recipes import StoredTrainingConfig
from tinyvit_kd.errors import BlockMissingError, ConfigError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.store.store import LogitStore


def schedule_stored_views(
    config: StoredTrainingConfig, stores: Sequence[LogitStore], job: Job, counts: ViewCounts | None, epoch: int
) -> ViewSchedule:
    """Which views each epoch uses (see ``choose_stored_views``); with ``store.follow`` none has to be there yet.

    Raises:
        ConfigError: see ``choose_stored_views``.
        BlockMissingError: a later epoch needs a block that is missing.
    """
    views = choose_stored_views(config, stores, job, counts, epoch)
    for store in stores if not config.store.follow else ():
        require_blocks(store, views.used(range(max(0, epoch - 1), config.schedule.epochs)), job)
    return views


def choose_stored_views(
    config: StoredTrainingConfig, stores: Sequence[LogitStore], job: Job, counts: ViewCounts | None, epoch: int
) -> ViewSchedule:
    """Which views each epoch uses, whether they are there or not.

    Views that were dumped while a run was stopped are used from ``epoch`` on. With ``store.follow`` all those
    count that the stores will have.

    Args:
        counts: how many views the run has used from which epoch on, from its checkpoint; None at the start of a run.
        epoch: the epoch that begins next.

    Raises:
        ConfigError: a sample would have the same view twice in one batch, or the recipe allows fewer views than the run
            has used.
    """
    schedule = config.schedule
    limit = config.store.views
    # While a store grows, a resumed run uses the complete views. The processes may count them at different moments, and
    # may have opened the store before it grew; so those are used that all of them know of.
    counts_all = counts is None or config.store.follow
    available = min(store.manifest.views if counts_all else complete_views(store, job) for store in stores)
    count = min(job.gather(min(available, limit or available)))
    seed = schedule.seed if config.store.view_schedule == "permutation" else None
    views = ViewSchedule(schedule.views_per_sample, counts or ((0, count),), seed)
    if counts is not None:
        views = views.grown(count, epoch)
    used = views.counts[-1][1]
    require_views_per_sample(schedule.views_per_sample, used)
    if limit is not None:
        require_limit(limit, used, resumed=counts is not None)
    say(
        job,
        f"{used} stored views per sample, {counted(len(stores), 'teacher')}; "
        f"view schedule: {config.store.view_schedule}"
        + ("; follows a dump: each epoch waits for its views" if config.store.follow else ""),
    )
    return views


def require_views_per_sample(wanted: int, used: int) -> None:
    """Check that a batch does not need a view twice.

    Args:
        wanted: views of each sample in a batch.
        used: stored views per sample that the run uses.

    Raises:
        ConfigError: it would.
    """
    if wanted > used:
        raise ConfigError(
            "an epoch takes more views per sample than the store has",
            where="schedule.views_per_sample",
            found=f"{wanted} views per sample, {used} in the store",
            fix="lower schedule.views_per_sample, or dump more views",
        )


def require_limit(limit: int, used: int, resumed: bool) -> None:
    """Check that a new run has as many views as it asks for, and a resumed run may use all that it has used before.

    Raises:
        ConfigError: it has not, or may not.
    """
    if resumed and limit < used:
        raise ConfigError(
            "the run has used more views already",
            where="store.views",
            found=str(limit),
            expected=f"{used} or more, or null",
            fix="to use fewer views, start a run in another output folder",
        )
    if not resumed and limit > used:
        raise ConfigError(
            "the store has fewer views than the recipe asks for",
            where="store.views",
            found=str(limit),
            expected=f"at most {used}",
            fix="lower store.views, omit it to use all views of the store, or dump more views",
        )


def complete_views(store: LogitStore, job: Job) -> int:
    """How many views are complete; other processes than the first of each machine leave that to it."""
    return store.complete_views() if job.is_first_here else store.manifest.views


def require_blocks(store: LogitStore, views: list[int], job: Job) -> None:
    """Check that all blocks of some views are there; every process must call.

    One process of each machine lists them: its disk may be its own, and a shared one is asked by each machine once.

    Raises:
        BlockMissingError: naming the first that is not.
    """
    missing = store.missing_table(views) if job.is_first_here else np.zeros((0, 0), dtype=np.bool_)
    first = [(int(missing.sum()), shard, views[column]) for shard, column in np.argwhere(missing)[:1].tolist()]
    found = [each for others in job.gather(first) for each in others]
    if found:
        count, shard, view = found[0]
        raise BlockMissingError(
            "blocks of the store that this run needs are missing",
            where=store.where,
            found=f"{count:,} of {len(views) * len(store.manifest.shard_names):,} missing; "
            f"the first is view {view} of shard {store.manifest.shard_names[shard]}",
            fix="finish dump-logits (it makes only the missing blocks), lower store.views, train fewer epochs, or set "
            "store.follow: true to train while the dump goes on",
        )
