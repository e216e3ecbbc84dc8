"""What is known of a shard set without making or writing anything: its listing, and indexes that are there."""

from __future__ import annotations

from contextlib import closing

from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.data.each_shard import each_shard
from tinyvit_kd.data.indexing.index_file import find_index
from tinyvit_kd.data.indexing.summaries import Summary, summary_of
from tinyvit_kd.data.locating.locate import locate_shards
from tinyvit_kd.data.locating.served import is_served
from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.data.shard_files import ShardFiles
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
    shards = ShardSet.listed(listing, **config.places, **labels)
    found = [] if any(map(_is_fetched_whole, shards.locations)) else _summaries(shards)
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
    """Bytes of all tars together; None where one is at a URL from which it would have to be fetched whole.

    Raises:
        ShardError: a tar is missing.
    """
    if any(map(_is_fetched_whole, shards.locations)):
        return None
    locations = shards.locations
    return sum(each_shard(locations, lambda shard, files: files.info(locations[shard]).size, shards.files))


def _is_fetched_whole(location: str) -> bool:
    return is_url(location) and not is_served(location)


def _summaries(shards: ShardSet) -> list[Summary]:
    """The shards in numbers, up to the first that has not been indexed."""

    def summary(shard: int, files: ShardFiles) -> Summary | None:
        index = find_index(shards.locations[shard], shards.index_places, files, shards.label_key)
        return None if index is None else summary_of(shards.labelled(index))

    found: list[Summary] = []
    with closing(each_shard(shards.locations, summary, shards.files)) as summaries:
        for each in summaries:
            if each is None:
                break
            found.append(each)
    return found
