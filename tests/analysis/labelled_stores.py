"""Stores of real labelled shards, with records that a test makes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.tiny_world import draw_shards
from tests.store.blocks import manifest_of
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

VIEWS, TOPK = 4, 5
MakeBlock = Callable[[ShardSet, int, int], Block]  # of a shard and a view


def labelled_shards(folder: Path) -> ShardSet:
    """96 images of 24 classes in shards of 40, 40 and 16."""
    return ShardSet.load(draw_shards(folder), "train")


def store_of(path: Path, shards: ShardSet, make_block: MakeBlock, **changes: Any) -> LogitStore:
    """A store of the top 5 of the labels' classes, in four views."""
    assert shards.class_list is not None
    given: dict[str, Any] = {
        "shard_names": shards.names,
        "key_hashes": tuple(shards.key_hashes()),
        "num_classes": len(shards.class_list.ids),
        "class_list": shards.class_list.name,
        "class_list_hash": shards.class_list.hash,
        "view_spec": {"size": 16},
        "views": VIEWS,
        "topk": TOPK,
    }
    lengths = tuple(shards.lengths.tolist())
    store = LogitStore.create(path, manifest_of(lengths, **given | changes))
    store.write_class_list(shards.class_list.ids)
    for shard in range(len(lengths)):
        for view in range(store.manifest.views):
            store.write_block(shard, view, make_block(shards, shard, view))
    return store
