"""``shards index``: makes the missing byte indexes of existing tars."""

from __future__ import annotations

from typing import Any

from tinyvit_kd.analysis.shard_set import describe_shards, shard_bar, shard_figures
from tinyvit_kd.data.shards import ShardSet


def index(path: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """Make the missing byte indexes; returns a description of the shard set for people, and one for machines.

    Args:
        options: those of ``ShardSet.load``.
    """
    with shard_bar("shards index") as on_shard:
        shards = ShardSet.load(path, on_shard=on_shard, **options)
        return describe_shards(shards, options.get("class_list")), shard_figures(shards)
