"""Where a store's files lie on the local disk: benchmarks and tests look at them, and damage them."""

from __future__ import annotations

from pathlib import Path

from tinyvit_kd.store.store import LogitStore


def store_folder(store: LogitStore) -> Path:
    """The folder of a store."""
    return Path(store.where)


def block_file(store: LogitStore, shard: int, view: int) -> Path:
    """The file of a block."""
    return Path(store.block_location(shard, view))
