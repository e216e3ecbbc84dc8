"""Opens, indexes and fingerprints the shards of a run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.data.tars.leftovers import PASSED_OVER
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.runtime.watchdog import watched


def open_shards(config: ShardsConfig, job: Job, runtime: RuntimeConfig) -> ShardSet:
    """Open a shard set with its byte indexes.

    Rank 0 fetches and indexes what is missing while the others wait, and tells them what the indexes say. So a cluster
    reads each index once, and afterwards each process those of the shards that it takes samples from; these are then
    compared with what rank 0 has told (``ShardSet.index``). Tars on another machine's own disk are looked at once.

    Raises:
        ShardError: see ``ShardSet.load``; or there are no samples, or more than ``max_lost_fraction`` of them are lost;
            or another machine has other shards.
        ConfigError: see ``ShardSet.load``.
    """
    # None of these if labels are not used.
    labels = config.model_dump(include={"class_list", "label_key", "first_label"})
    with saying("opening the shards", unit="shard") as beat, watched(runtime.data_timeout):
        with job.main_first():
            shards, _ = ShardSet.located(config.path, config.split, **config.places, **labels)
            if job.is_main:
                shards = shards.indexed(shards.summaries(beat.at))
        if job.world_size > 1:
            shards = _told_by_main(shards, job)
    _require_samples(shards, config, job)
    return shards


def _told_by_main(shards: ShardSet, job: Job) -> ShardSet:
    """The shards with what rank 0 knows of them."""
    known, files = job.broadcast((shards.known, _files(shards)) if job.is_main else None)
    if len(known) != len(shards.names):
        raise ShardError(
            "the machines of this job do not find the same shards",
            where=shards.name,
            found=f"{len(shards.names):,} shards here",
            expected=f"{len(known):,}, as rank 0",
            fix="give all machines the same shards, then start again",
        )
    shards = shards.indexed(known)
    if job.is_first_here and not job.is_main and files is not None:
        _look_at(shards, files)
    job.barrier()
    return shards


def _files(shards: ShardSet) -> npt.NDArray[np.int64] | None:
    """Size and time of modification of each tar: int64 [shards, 2]; None of URLs, behind which all find the same."""
    if any(map(is_url, shards.locations)):
        return None
    with shards.files() as files:
        return np.array([files.info(location)[:2] for location in shards.locations], dtype=np.int64)


def _look_at(shards: ShardSet, expected: npt.NDArray[np.int64]) -> None:
    """Open the indexes of tars that are not rank 0's files: they are made where they are missing, and compared."""
    found = _files(shards)
    assert found is not None, "the same locations have no URL on rank 0"
    with shards.files() as files:
        for shard in np.flatnonzero((found != expected).any(axis=1)).tolist():
            shards.index(shard, files)


def _require_samples(shards: ShardSet, config: ShardsConfig, job: Job) -> None:
    """Refuse a shard set that has lost too many samples, or has none; name what is lost of others."""
    leftovers, empty = shards.leftovers(), shards.empty_shards()
    lost = leftovers.describe_lost(shards.total)
    if not shards.total:
        raise ShardError(
            "the shards hold no samples",
            where=config.path,
            found=lost or "; ".join(leftovers.lines(PASSED_OVER)) or "empty tars",
            expected="tars of images, with their labels beside them where labels are used",
            fix="check the path; shards info describes what the tars hold",
        )
    if leftovers.lost_fraction(shards.total) > config.max_lost_fraction:
        raise ShardError(
            "too many samples of the shards are lost",
            where=config.path,
            found=lost,
            expected=f"at most {config.max_lost_fraction:.2%} (shards.max_lost_fraction)",
            fix="make the tars again from the original files; to go on without these samples, raise "
            "shards.max_lost_fraction",
        )
    if lost:
        say(job, f"{shards.name}: samples are lost: {lost}")
    if empty:
        say(job, f"{shards.name}: shards without a sample: {len(empty):,}, the first is {empty[0]}")


def fingerprint(shards: ShardSet) -> str:
    """16 hexadecimal digits over the keys and image sizes of all samples, in order."""
    return f"{hash64(*shards.key_hashes()):016x}"


def label_fingerprint(shards: ShardSet) -> str:
    """16 hexadecimal digits over the labels of all samples, in order."""
    return f"{hash64(*shards.label_hashes()):016x}"
