"""Figures about a store: blocks, bytes and holes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tinyvit_kd.store.codec import read_status
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
    missing = store.missing_blocks()
    present = list(store.present_blocks(missing))
    return Statistics(
        blocks=len(present),
        total_blocks=len(present) + len(missing),
        records=sum(manifest.shard_lengths[shard] for shard, _ in present),
        holes=dict(Counter(reason.name.lower() for _, _, reason in holes(store))),
        bytes=sum(store.block_bytes(shard, view) for shard, view in present),
        dense_bytes_per_record=4 * manifest.num_classes,
        raw_bytes_per_record=4 * manifest.topk + 4,
    )


def sampled_blocks(blocks: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
    """At most ``SAMPLED_BLOCKS`` of some blocks, evenly spread."""
    return blocks[:: max(1, math.ceil(len(blocks) / SAMPLED_BLOCKS))]


def holes(store: LogitStore) -> Iterator[tuple[int, int, RecordStatus]]:
    """(shard, index, reason) of every hole. If one view of a sample is a hole, all of them are."""
    for shard, length in enumerate(store.manifest.shard_lengths):
        view = next((view for view in range(store.manifest.views) if store.has_block(shard, view)), None)
        if view is None or not length:
            continue
        status = read_status(store.read_planes(shard, view))
        for index in np.flatnonzero(status).tolist():
            yield shard, index, RecordStatus(int(status[index]))
