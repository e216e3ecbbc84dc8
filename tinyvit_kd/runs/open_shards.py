"""Opens, indexes and fingerprints the shards of a run."""

from __future__ import annotations

from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.runtime.watchdog import watched


def open_shards(config: ShardsConfig, job: Job, runtime: RuntimeConfig) -> ShardSet:
    """Open a shard set with its byte indexes. Rank 0 fetches and indexes what is missing while the others wait.

    Raises:
        ShardError, ConfigError: see ``ShardSet.load``.
    """
    with job.main_first(), watched(runtime.data_timeout):
        labels = config.model_dump(include={"class_list", "label_key", "first_label"})  # none of them if unlabelled
        shards = ShardSet.load(
            config.path, config.split, cache_dir=config.cache_dir, index_dir=config.index_dir, **labels
        )
        shards.key_hashes()
    return shards


def fingerprint(shards: ShardSet) -> str:
    """16 hexadecimal digits over the keys and image sizes of all samples, in order."""
    return f"{hash64(*shards.key_hashes()):016x}"


def label_fingerprint(shards: ShardSet) -> str:
    """16 hexadecimal digits over the labels of all samples, in order."""
    return f"{hash64(*shards.label_hashes()):016x}"
