"""``shards info``: describes a shard set."""

from __future__ import annotations

from typing import Any

from tinyvit_kd.analysis.shard_set import describe_shards, shard_bar, shard_figures
from tinyvit_kd.data.shards import ShardSet


def info(path: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """A description of a shard set for people, and one for machines.

    Args:
        options: those of ``ShardSet.load``.
    """
    with shard_bar("shards info") as on_shard:
        shards = ShardSet.load(path, on_shard=on_shard, **options)
        return describe_shards(shards, options.get("class_list")), shard_figures(shards)
