"""Records as plain arrays, and what a block's header says."""

from __future__ import annotations

import struct
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import Encoding
from tinyvit_kd.store.encodings import ENCODINGS

MAGIC = b"TVKDBLCK"
FORMAT_VERSION = 1
_HEADER = struct.Struct("<8sHBxIIIIIQQ")  # magic, format, encoding, shard, view, n, k, classes, key hash, manifest
HEADER_BYTES = 64
_CODES = tuple(ENCODINGS)  # a header holds a position


class RecordStatus(IntEnum):
    """Whether a record has probabilities and, for a hole, why it has none; stored as one byte."""

    VALID = 0
    UNREADABLE = 1
    TRUNCATED = 2
    TOO_LARGE = 3


@dataclass(frozen=True)
class Block:
    """The records of one (shard, view number), or some of them.

    Classes are ascending within a record. A hole has zeros in all but ``seeds`` and ``status``.
    """

    indices: npt.NDArray[np.int32]  # [n, K]
    probs: npt.NDArray[np.float32]  # [n, K]
    residual: npt.NDArray[np.float32]  # [n], mass outside the K classes
    seeds: npt.NDArray[np.uint32]  # [n]
    digests: npt.NDArray[np.uint32]  # [n], low half of xxh3_64 of the view
    status: npt.NDArray[np.uint8]  # [n], a RecordStatus

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """[n]: whether the record has probabilities."""
        return np.equal(self.status, RecordStatus.VALID)

    def __len__(self) -> int:
        return len(self.status)

    @classmethod
    def empty(cls, length: int, topk: int) -> Block:
        """``length`` records of zeros, to be filled."""
        return cls(
            np.zeros((length, topk), np.int32),
            np.zeros((length, topk), np.float32),
            np.zeros(length, np.float32),
            np.zeros(length, np.uint32),
            np.zeros(length, np.uint32),
            np.zeros(length, np.uint8),
        )

    def take(self, rows: slice | npt.NDArray[np.int64]) -> Block:
        """These records; where ``rows`` is a slice, in the same memory."""
        return Block(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, rows: npt.NDArray[np.int64], other: Block) -> None:
        """Copy ``other``'s records into these rows."""
        for field in fields(self):
            getattr(self, field.name)[rows] = getattr(other, field.name)


@dataclass(frozen=True)
class BlockHeader:
    """What a block says of itself, so that a chunk in the wrong place is found."""

    encoding: Encoding
    shard: int
    view: int
    length: int  # n
    topk: int  # K
    num_classes: int  # C
    key_hash: int  # of the shard's keys
    manifest_hash: int  # of the store's identity: teacher, views, seed, …
    format_version: int = FORMAT_VERSION

    def pack(self) -> bytes:
        """64 bytes, zeros behind."""
        return _HEADER.pack(
            MAGIC,
            self.format_version,
            _CODES.index(self.encoding),
            self.shard,
            self.view,
            self.length,
            self.topk,
            self.num_classes,
            self.key_hash,
            self.manifest_hash,
        ).ljust(HEADER_BYTES, b"\0")

    @classmethod
    def unpack(cls, data: bytes) -> BlockHeader | None:
        """The header in these bytes; None where they are not one."""
        magic, version, encoding, shard, view, length, topk, classes, keys, manifest = _HEADER.unpack_from(data)
        if magic != MAGIC or encoding >= len(_CODES):
            return None
        return cls(_CODES[encoding], shard, view, length, topk, classes, keys, manifest, version)
