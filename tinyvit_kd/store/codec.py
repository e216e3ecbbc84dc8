"""Blocks to bytes and back: planes of uint8 [rows, n], one row a field's byte, one column a record.

Rows: header, class planes (ascending, delta-coded, low bytes of all K first), probability planes, then residual,
seed, digest, status. Bytes of one kind side by side are what zstd compresses best; who wants a few records of many
blocks turns each block once (``rows_of``) and decodes rows of several blocks together.

What becomes of probabilities and residual is the encoding's (``store.encodings``).
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import Encoding
from tinyvit_kd.store.encodings import ENCODINGS, Planes, Rows, byte_planes
from tinyvit_kd.store.records import HEADER_BYTES, Block, BlockHeader, RecordStatus


def plane_rows(encoding: Encoding, length: int, topk: int, num_classes: int) -> int:
    """Rows of a block of ``length`` records."""
    return _header_rows(length) + row_bytes(encoding, topk, num_classes)


def encode(block: Block, header: BlockHeader) -> Planes:
    """A block as planes: uint8 [rows, n]."""
    _assert_encodable(block, header)
    length = header.length
    first = np.zeros(_header_rows(length) * length, dtype=np.uint8)
    first[:HEADER_BYTES] = np.frombuffer(header.pack(), dtype=np.uint8)
    encoding = ENCODINGS[header.encoding]
    return np.concatenate(
        [
            first.reshape(-1, length),
            _encode_classes(block.indices, header.num_classes),
            encoding.encode_probs(block.probs),
            _bytes_of(encoding.encode_residual(block.residual)),
            _bytes_of(block.seeds),
            _bytes_of(block.digests),
            block.status[None],
        ]
    )


def read_header(planes: Planes) -> BlockHeader | None:
    """The header of a block; None where the planes do not begin with one."""
    data = planes[: _header_rows(planes.shape[1])].tobytes()
    return BlockHeader.unpack(data[:HEADER_BYTES])


def decode(planes: Planes, header: BlockHeader) -> Block:
    """The records of a block, as arrays of their own."""
    return decode_rows(rows_of(planes), header.encoding, header.topk, header.num_classes)


def row_bytes(encoding: Encoding, topk: int, num_classes: int) -> int:
    """Bytes of an encoded record, before zstd."""
    return topk * (_class_bytes(num_classes) + ENCODINGS[encoding].prob_bytes) + _tail_rows(encoding)


def rows_of(planes: Planes, out: Rows | None = None) -> Rows:
    """A block's records as they are encoded, each in one row: uint8 [n, bytes of a record], a copy without the header.

    A record's bytes lie together in memory, so that taking some records out is several times faster than from planes.

    Args:
        out: where the copy goes; a new array by default.
    """
    rows = planes[_header_rows(planes.shape[1]) :].T
    if out is None:
        return rows.copy()
    out[:] = rows
    return out


def decode_rows(rows: Rows, encoding: Encoding, topk: int, num_classes: int) -> Block:
    """Records of any blocks of one store, as arrays of their own."""
    chosen = ENCODINGS[encoding]
    residual_type = np.dtype(chosen.residual_type)
    widths = topk * _class_bytes(num_classes), topk * chosen.prob_bytes, residual_type.itemsize, 4, 4, 1
    parts = (rows[:, end - each : end] for each, end in zip(widths, accumulate(widths), strict=True))
    classes, probs, residuals, seeds, digests, status = parts
    residual = _from_bytes(residuals, residual_type).astype(np.float32)
    valid = status[:, 0] == RecordStatus.VALID
    return Block(
        indices=_decode_classes(classes, topk),
        probs=chosen.decode_probs(probs, residual, valid),
        residual=residual,
        seeds=_from_bytes(seeds, np.uint32),
        digests=_from_bytes(digests, np.uint32),
        status=status[:, 0].copy(),
    )


def read_status(planes: Planes) -> npt.NDArray[np.uint8]:
    """The RecordStatus of each record: [n]."""
    status: npt.NDArray[np.uint8] = planes[-1]
    return status.copy()


def _assert_encodable(block: Block, header: BlockHeader) -> None:
    # Any of these would be stored without a complaint and read back as something else.
    shape = (header.length, header.topk)
    assert block.indices.shape == block.probs.shape == shape, "the block has another size than its header"
    assert block.probs.dtype == block.residual.dtype == np.float32
    assert block.seeds.dtype == block.digests.dtype == np.uint32
    assert block.indices.min() >= 0
    assert block.indices.max() < header.num_classes
    ascending = (np.diff(block.indices, axis=1) > 0).all(axis=1)
    assert (ascending | ~block.valid).all(), "a record's classes must ascend"
    assert not block.indices[~block.valid].any(), "a hole has no classes"
    assert not block.probs[~block.valid].any(), "a hole has no probabilities"


def _header_rows(length: int) -> int:
    return math.ceil(HEADER_BYTES / length)


def _tail_rows(encoding: Encoding) -> int:
    return np.dtype(ENCODINGS[encoding].residual_type).itemsize + 4 + 4 + 1


def _class_bytes(num_classes: int) -> int:
    return max(1, ((num_classes - 1).bit_length() + 7) // 8)


def _encode_classes(indices: npt.NDArray[np.int32], num_classes: int) -> Planes:
    deltas = np.diff(indices.T, axis=0, prepend=0).astype("<u4")  # [K, n]
    width = _class_bytes(num_classes)
    return byte_planes(deltas)[: len(deltas) * width]


def _decode_classes(rows: Rows, topk: int) -> npt.NDArray[np.int32]:
    width = rows.shape[1] // topk
    parts = rows.reshape(len(rows), width, topk)
    deltas = parts[:, -1].astype(np.int32)
    for number in reversed(range(width - 1)):
        deltas <<= 8
        deltas |= parts[:, number]
    return np.add.accumulate(deltas, axis=1, out=deltas)


def _bytes_of(values: npt.NDArray[np.generic]) -> Planes:
    return byte_planes(values[None])


def _from_bytes(rows: Rows, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return rows.copy().view(dtype)[:, 0]
