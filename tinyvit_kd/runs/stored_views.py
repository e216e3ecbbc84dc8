"""Which of a store's views a run uses, and whether they are all there."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvit_kd.batches.view_schedule import ViewCounts, ViewSchedule
from tinyvit_kd.config.recipes import PretrainConfig
from tinyvit_kd.errors import BlockMissingError, ConfigError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.store.store import LogitStore


def schedule_stored_views(
    config: PretrainConfig, stores: Sequence[LogitStore], job: Job, counts: ViewCounts | None, epoch: int
) -> ViewSchedule:
    """Which views each epoch uses; from ``epoch`` on also those that were dumped since the run was stopped.

    Args:
        counts: what the run has used so far, from its checkpoint; None at the start of a run.
        epoch: the epoch that begins next.

    Raises:
        ConfigError: a sample would have the same view twice in one batch, or the recipe takes views away.
        BlockMissingError: the run would come to views that are not there.
    """
    schedule, limit = config.schedule, config.store.views
    # A store that is just growing must not stop a run that goes on, and may look different from each process.
    available = min(store.manifest.views if counts is None else store.complete_views() for store in stores)
    count = job.broadcast(min(available, limit or available))
    seed = schedule.seed if config.store.view_schedule == "permutation" else None
    views = ViewSchedule(schedule.views_per_sample, counts or ((0, count),), seed)
    if counts is not None:
        views = views.grown(count, epoch)
    used = views.counts[-1][1]
    _require_views_per_sample(schedule.views_per_sample, used)
    if limit is not None:
        _require_limit(limit, used, goes_on=counts is not None)
    for store in stores:
        _require_blocks(store, views.used(range(max(0, epoch - 1), schedule.epochs)))
    of = f"of each sample, of {len(stores)} teacher(s)"
    say(job, f"{used} stored views {of}; view schedule: {config.store.view_schedule}")
    return views


def _require_views_per_sample(wanted: int, used: int) -> None:
    if wanted > used:
        raise ConfigError(
            "the store has fewer views than an epoch takes of each sample",
            where="schedule.views_per_sample",
            found=f"{wanted} views per sample, {used} in the store",
            fix="lower it, or dump more views",
        )


def _require_limit(limit: int, used: int, goes_on: bool) -> None:
    """A run cannot begin with more views than there are, nor go on with fewer than it has used."""
    if goes_on and limit < used:
        what, expected = "the run has used more views already", f"{used} or more, or null"
        fix = "with fewer views, start a run in another output folder"
    elif not goes_on and limit > used:
        what, expected = "the store has fewer views than are asked for", f"at most {used}"
        fix = "lower it, leave it out to use all there are, or dump more views"
    else:
        return
    raise ConfigError(what, where="store.views", found=str(limit), expected=expected, fix=fix)


def _require_blocks(store: LogitStore, views: list[int]) -> None:
    missing = store.missing_blocks(views)
    if missing:
        shard, view = missing[0]
        raise BlockMissingError(
            f"{len(missing)} of the {len(views) * len(store.manifest.shard_names)} blocks "
            "that this run needs are missing",
            where=store.where,
            found=f"the first is view {view} of shard {store.manifest.shard_names[shard]}",
            fix="finish dump-logits (it makes only the missing blocks), lower store.views, or train fewer epochs",
        )
