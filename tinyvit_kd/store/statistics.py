"""Figures about a store: blocks, bytes and holes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit_kd.storage.together import together
from tinyvit_kd.store.codec import read_status
from tinyvit_kd.store.names import view_of
from tinyvit_kd.store.records import RecordStatus
from tinyvit_kd.store.store import LogitStore

SAMPLED_BLOCKS = 32  # blocks that are read for figures of the teacher


@dataclass(frozen=True)
class Statistics:
    """Figures about a store."""

    blocks: int  # present blocks
    total_blocks: int  # present and missing blocks
    records: int  # in the present blocks
    holes: dict[str, int]  # number of samples by reason
    bytes: int  # of the present blocks, on disk
    dense_bytes_per_record: int  # float32 probabilities of all classes
    raw_bytes_per_record: int  # int16 classes, float16 probabilities and the seed: the official format

    @property
    def bytes_per_record(self) -> float:
        """Bytes per record on disk, seed and digest included."""
        return self.bytes / self.records if self.records else 0.0


def statistics(store: LogitStore) -> Statistics:
    """Count a store's blocks, bytes and holes."""
    manifest = store.manifest
    sizes = block_sizes(store)
    missing = sum(store.manifest.views for length in store.manifest.shard_lengths if length) - len(sizes)
    present = list(sizes)
    return Statistics(
        blocks=len(present),
        total_blocks=len(present) + missing,
        records=sum(manifest.shard_lengths[shard] for shard, _ in present),
        holes=dict(Counter(reason.name.lower() for _, _, reason in holes(store))),
        bytes=sum(sizes.values()),
        dense_bytes_per_record=4 * manifest.num_classes,
        raw_bytes_per_record=4 * manifest.topk + 4,
    )


def block_sizes(store: LogitStore) -> dict[tuple[int, int], int]:
    """Sizes of all present blocks' files, bytes, by (shard, view)."""
    sizes: dict[tuple[int, int], int] = {}
    for shard, entries in store.array_entries():
        for entry in entries:
            view = view_of(entry.base)
            if view is not None and view < store.manifest.views:
                sizes[shard, view] = store.block_bytes(shard, view) if entry.size is None else entry.size
    return sizes


def sampled_blocks(blocks: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """At most ``SAMPLED_BLOCKS`` of some blocks, evenly spread."""
    return blocks[:: max(1, math.ceil(len(blocks) / SAMPLED_BLOCKS))]


def holes(store: LogitStore) -> Iterator[tuple[int, int, RecordStatus]]:
    """(shard, index, reason) of every hole. If one view of a sample is a hole, all of them are."""

    def read(block: tuple[int, int]) -> tuple[int, npt.NDArray[np.uint8]]:
        return block[0], read_status(store.read_planes(*block))

    for shard, status in together(store.storage, read, _first_blocks(store)):
        for index in np.flatnonzero(status).tolist():
            yield shard, index, RecordStatus(int(status[index]))


def _first_blocks(store: LogitStore) -> Iterator[tuple[int, int]]:
    """(shard, view) of one present block of each shard; of an object store they are listed, not asked for."""
    if store.storage.at_a_time > 1:
        yield from sorted(dict(sorted(block_sizes(store), reverse=True)).items())
        return
    for shard, length in enumerate(store.manifest.shard_lengths):
        view = next((view for view in range(store.manifest.views) if store.has_block(shard, view)), None)
        if view is not None and length:
            yield shard, view
