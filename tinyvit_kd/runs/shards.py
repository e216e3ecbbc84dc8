"""Shards of a run: opened, indexed, fingerprinted."""

from __future__ import annotations

from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.runtime.watchdog import watched


def open_shards(config: ShardsConfig, job: Job, runtime: RuntimeConfig) -> ShardSet:
    """The shard set with its byte indexes; rank 0 fetches and indexes what is missing, the others wait for it."""
    with job.main_first(), watched(runtime.data_timeout):
        shards = ShardSet.load(config.path, config.split, cache_dir=config.cache_dir, index_dir=config.index_dir)
        shards.key_hashes()
    return shards


def fingerprint(shards: ShardSet) -> str:
    """16 hexadecimal digits over all keys and image sizes, in order."""
    return f"{hash64(*shards.key_hashes()):016x}"


def label_fingerprint(shards: ShardSet) -> str:
    """16 hexadecimal digits over all labels, in order."""
    return f"{hash64(*shards.label_hashes()):016x}"
