"""Opens, indexes and fingerprints the shards of a run."""

from __future__ import annotations

from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.data.tars.leftovers import PASSED_OVER
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.runtime.watchdog import watched


def open_shards(config: ShardsConfig, job: Job, runtime: RuntimeConfig) -> ShardSet:
    """Open a shard set with its byte indexes. Rank 0 fetches and indexes what is missing while the others wait.

    Raises:
        ShardError: see ``ShardSet.load``; or there are no samples, or more than ``max_lost_fraction`` of them are lost.
        ConfigError: see ``ShardSet.load``.
    """
    # None of these if labels are not used.
    labels = config.model_dump(include={"class_list", "label_key", "first_label"})
    with (
        saying("opening the shards", unit="shard") as beat,
        job.main_first(),
        watched(runtime.data_timeout),
    ):
        shards = ShardSet.load(
            config.path,
            config.split,
            cache_dir=config.cache_dir,
            cache_bytes=config.cache_bytes,
            cache_local=config.cache_local,
            index_dir=config.index_dir,
            on_shard=beat.at,
            **labels,
        )
    _require_samples(shards, config, job)
    return shards


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
