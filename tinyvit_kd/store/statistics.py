"""What a store holds, in figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tinyvit_kd.store.codec import read_status
from tinyvit_kd.store.records import RecordStatus
from tinyvit_kd.store.store import LogitStore

SAMPLED_BLOCKS = 32


@dataclass(frozen=True)
class Statistics:
    """Figures of a store; the teacher's are means over valid records of a sample of blocks."""

    blocks: int  # that are there
    blocks_in_all: int
    records: int  # of the blocks that are there
    holes: dict[str, int]  # samples by reason
    bytes: int  # of the blocks on disk
    mean_top1: float  # probability of the teacher's best class
    mean_residual: float  # mass outside the K classes
    dense_bytes_per_record: int  # float32 probabilities of all classes
    raw_bytes_per_record: int  # int16 classes, float16 probabilities and the seed: the official format

    @property
    def bytes_per_record(self) -> float:
        """Bytes on disk a record, seed and digest included."""
        return self.bytes / self.records if self.records else 0.0


def statistics(store: LogitStore) -> Statistics:
    """Count a store's blocks, bytes and holes, and read a few of its blocks."""
    manifest = store.manifest
    missing = store.missing_blocks()
    present = list(store.present_blocks(missing))
    tops, residuals = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)]
    for shard, view in present[:: max(1, math.ceil(len(present) / SAMPLED_BLOCKS))]:
        block = store.read_block(shard, view)
        tops.append(block.probs[block.valid].max(axis=1, initial=0))
        residuals.append(block.residual[block.valid])
    return Statistics(
        blocks=len(present),
        blocks_in_all=len(present) + len(missing),
        records=sum(manifest.shard_lengths[shard] for shard, _ in present),
        holes=dict(Counter(reason.name.lower() for _, _, reason in holes(store))),
        bytes=sum(store.block_bytes(shard, view) for shard, view in present),
        mean_top1=_mean(np.concatenate(tops)),
        mean_residual=_mean(np.concatenate(residuals)),
        dense_bytes_per_record=4 * manifest.num_classes,
        raw_bytes_per_record=4 * manifest.topk + 4,
    )


def holes(store: LogitStore) -> Iterator[tuple[int, int, RecordStatus]]:
    """(shard, index, reason) of every sample without views; all of a sample's views agree on it."""
    for shard, length in enumerate(store.manifest.shard_lengths):
        view = next((view for view in range(store.manifest.views) if store.has_block(shard, view)), None)
        if view is None or not length:
            continue
        status = read_status(store.read_planes(shard, view))
        for index in np.flatnonzero(status).tolist():
            yield shard, index, RecordStatus(int(status[index]))


def _mean(values: np.ndarray[tuple[int], np.dtype[np.float32]]) -> float:
    return float(values.mean(dtype=np.float64)) if len(values) else 0.0
