"""What is known of a shard set without making or writing anything: its listing, and indexes that are there."""

from __future__ import annotations

from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.data.indexing.index_file import find_index
from tinyvit_kd.data.indexing.summaries import Summary, summary_of
from tinyvit_kd.data.locating.locate import locate_shards
from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ShardError


def known_shards(config: ShardsConfig) -> ShardSet:
    """A shard set as a recipe names it; ``known`` says whether all of its shards have been indexed.

    Raises:
        ShardError: there are no tars, or neither ``_info.json`` nor indexes say how many samples they hold.
        ConfigError: see ``locate_shards``.
    """
    listing = locate_shards(config.path, config.split, config.cache_dir)
    labels = config.model_dump(include={"class_list", "label_key", "first_label"})  # none of these if not used
    shards = ShardSet.listed(listing, cache_dir=config.cache_dir, index_dir=config.index_dir, **labels)
    found = [] if any(map(is_url, shards.locations)) else _summaries(shards)
    if len(found) == len(shards.names):
        return shards.indexed(found)
    if listing.lengths is None:
        raise ShardError(
            "nothing says how many samples the shards hold",
            where=config.path,
            found=f"no _info.json, and indexes of {len(found):,} of {len(shards.names):,} shards",
            fix="make the indexes (shards index)",
        )
    return shards


def tar_bytes(shards: ShardSet) -> int | None:
    """Bytes of all tars together; None for those that lie behind URLs.

    Raises:
        ShardError: a tar is missing.
    """
    if any(map(is_url, shards.locations)):
        return None
    with shards.files() as files:
        return sum(files.info(location).size for location in shards.locations)


def _summaries(shards: ShardSet) -> list[Summary]:
    """The shards in numbers, up to the first that has not been indexed."""
    found: list[Summary] = []
    with shards.files() as files:
        for location in shards.locations:
            index = find_index(location, shards.index_dir, files, shards.label_key)
            if index is None:
                break
            found.append(summary_of(shards.labelled(index)))
    return found
