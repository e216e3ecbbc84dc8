"""Simulated records in a store of ours, and in files as the official TinyViT code keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.stores import made_up_manifest
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.records import Block
from tinyvit_kd.store.store import LogitStore

SHARD = 6836  # samples: 14M in 2,048 shards
KEYS, VALUES = "rank0-keys.txt", "rank0-values.bin"  # names that the official code gives


def simulated(path: Path) -> tuple[Block, int]:
    """Simulated top-k of a teacher as a block, and the number of its classes."""
    with np.load(path) as arrays:
        order = np.argsort(arrays["indices"], axis=1)
        indices = np.take_along_axis(arrays["indices"].astype(np.int32), order, axis=1)
        probs = np.take_along_axis(arrays["probs"], order, axis=1)
        num_classes = int(arrays["num_classes"])
    rng = np.random.default_rng(0)
    seeds, digests = rng.integers(0, 2**32, (2, len(indices)), dtype=np.uint32)
    residual = (1 - probs.sum(axis=1, dtype=np.float64)).astype(np.float32)
    return Block(indices, probs, residual, seeds, digests, np.zeros(len(indices), np.uint8)), num_classes


def repeated(block: Block, first: int, length: int) -> Block:
    """Records number ``first`` to ``first + length - 1`` of the block said over and over."""
    return block.take(np.arange(first, first + length) % len(block))


def shard_lengths(records: int) -> tuple[int, ...]:
    """Shards of about ``SHARD`` samples; their lengths differ by one at most."""
    shards = max(1, round(records / SHARD))
    return tuple(records // shards + (shard < records % shards) for shard in range(shards))


def manifest_for(block: Block, num_classes: int, lengths: tuple[int, ...]) -> Manifest:
    """The manifest of a compact store of one view a sample."""
    shards = {f"imagenet22k-train-{shard:04d}.tar": length for shard, length in enumerate(lengths)}
    key_hashes = tuple(hash64(shard) for shard in range(len(lengths)))
    return made_up_manifest(shards, key_hashes, ViewSpec(), block.probs.shape[1], num_classes)


def fill_store(folder: Path, block: Block, num_classes: int, records: int) -> LogitStore:
    """A store of so many records: each block is encoded and written with its own header."""
    store = LogitStore.create(folder, manifest_for(block, num_classes, shard_lengths(records)))
    first = 0
    for shard, length in enumerate(store.manifest.shard_lengths):
        store.write_block(shard, 0, repeated(block, first, length))
        first += length
    return store


def official_type(topk: int) -> np.dtype[np.void]:
    """An official record: 4 + 4 K bytes."""
    return np.dtype([("seed", "<u4"), ("indices", "<i2", topk), ("probs", "<f2", topk)])


def official_records(block: Block) -> npt.NDArray[np.void]:
    """A block's records as the official code stores them, the most probable class first: [n]."""
    packed = np.empty(len(block), official_type(block.probs.shape[1]))
    order = np.argsort(-block.probs, axis=1, kind="stable")
    packed["seed"] = block.seeds
    packed["indices"] = np.take_along_axis(block.indices, order, axis=1)
    packed["probs"] = np.take_along_axis(block.probs, order, axis=1)
    return packed


def official_key(number: int) -> str:
    """The key of a record: a path like those of ImageNet-22k."""
    return f"n{number // 650:08d}/n{number // 650:08d}_{number}.JPEG"


def write_official(folder: Path, block: Block, records: int) -> None:
    """One file of keys, one of values."""
    folder.mkdir(parents=True)
    packed = official_records(block)
    with (folder / VALUES).open("wb") as values:
        for first in range(0, records, len(packed)):
            packed[: records - first].tofile(values)
    write_keys(folder, records)


def write_keys(folder: Path, records: int) -> None:
    """The file of keys, a line each."""
    (folder / KEYS).write_text("".join(f"{official_key(number)}\n" for number in range(records)))
