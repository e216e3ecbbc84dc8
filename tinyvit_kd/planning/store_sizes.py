"""How large a store becomes, by arithmetic: its records, the official format's, dense probabilities, and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tinyvit_kd.config.data import Encoding
from tinyvit_kd.store.codec import row_bytes
from tinyvit_kd.store.encodings import ENCODINGS

# Bytes that remain of a class and its probability after zstd. Measured on the simulated top 100 of 21,841 classes, of
# which a record takes 164.5 bytes in compact and 509 in exact (docs/PLANNING.md has what others take).
_PER_CLASS: dict[Encoding, float] = {"compact": 1.545, "exact": 4.97}
_SEED_AND_DIGEST = 8  # bytes at random, which zstd leaves as they are


def raw_record_bytes(topk: int) -> int:
    """Bytes of a record in the official TinyViT format: int16 classes, float16 probabilities and an int32 seed."""
    return topk * (2 + 2) + 4


def dense_record_bytes(num_classes: int) -> int:
    """Bytes of float32 probabilities of all classes, and a seed."""
    return num_classes * 4 + 4


def record_bytes(encoding: Encoding, topk: int, num_classes: int) -> float:
    """Estimated bytes of a record on disk, after zstd, seed and digest included."""
    residual = np.dtype(ENCODINGS[encoding].residual_type).itemsize
    per_class = min(_PER_CLASS[encoding], (row_bytes(encoding, topk, num_classes) - residual) / topk)
    return topk * per_class + residual + _SEED_AND_DIGEST


@dataclass(frozen=True)
class StoreSize:
    """A store that is complete, in numbers.

    Attributes:
        records: one per sample and view.
        record_bytes: of one record on disk.
        measured: whether ``record_bytes`` is that of blocks that are there; False: an estimate.
        raw_bytes: of the same records in the official format.
        dense_bytes: of float32 probabilities of all classes.
        blocks: files of records.
        files: all files, at most.
    """

    records: int
    record_bytes: float
    measured: bool
    raw_bytes: int
    dense_bytes: int
    blocks: int
    files: int

    @property
    def bytes(self) -> int:
        """Of all records on disk."""
        return round(self.records * self.record_bytes)


def store_size(
    lengths: Sequence[int],
    views: int,
    encoding: Encoding,
    topk: int,
    num_classes: int,
    measured: float | None = None,
) -> StoreSize:
    """The size of a store of shards of these lengths.

    Args:
        measured: bytes of a record of blocks that are there; None: it is estimated.
    """
    records = sum(lengths) * views
    blocks = sum(length > 0 for length in lengths) * views
    return StoreSize(
        records=records,
        record_bytes=record_bytes(encoding, topk, num_classes) if measured is None else measured,
        measured=measured is not None,
        raw_bytes=records * raw_record_bytes(topk),
        dense_bytes=records * dense_record_bytes(num_classes),
        blocks=blocks,
        # The description of each array; those of the group and the store, its class list and some labels.
        files=blocks + len(lengths) + 4,
    )
