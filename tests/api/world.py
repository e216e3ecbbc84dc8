"""Shards and stores for the tests of the Python API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tinyvit_kd
from benchmarks.tiny_world import MIXED, SIZE, VIEWS, World
from tests.views.transforms import PIPELINE
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.stages.dump_logits import dump_logits

SPECS: dict[str, dict[str, Any]] = {
    "plain": VIEWS,
    "mixed": MIXED,
    "transform": {"size": SIZE, "transform": PIPELINE},
    "transform, mixed": {"size": SIZE, "transform": PIPELINE, "mixup": 0.8},
}


def dumped(material: Path, folder: Path, views: dict[str, Any]) -> World:
    """A folder with the shards and the teacher of another one, and a store of its own."""
    for name in ("shards", "teacher"):
        (folder / name).symlink_to(material / name)
    dump_logits(World(folder).dump(views=views), solo_job())
    return World(folder)


def shards_of(world: World) -> tinyvit_kd.ShardSet:
    return tinyvit_kd.open_shards(world.folder / "shards", "train")


def places(shards: tinyvit_kd.ShardSet) -> Iterator[tuple[int, int]]:
    """Shard and index of every sample."""
    for shard, length in enumerate(shards.lengths.tolist()):
        for index in range(length):
            yield shard, index
