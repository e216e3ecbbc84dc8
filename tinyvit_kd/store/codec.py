"""Blocks to bytes and back: planes of uint8 [rows, n], one row a field's byte, one column a record.

Rows: header, class planes (ascending, delta-coded, low bytes of all K first), probability planes, then residual,
seed, digest, status. Bytes of one kind side by side are what zstd compresses best; who wants a few records of many
blocks turns each block once (``rows_of``) and decodes rows of several blocks together.

Two encodings:

* compact: probabilities on a square-root scale of 8 bits, residual in float16. Decoded probabilities are
  rescaled, so that they and the residual sum to 1.
* exact: probabilities and residual in float32, bit for bit.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from tinyvit_kd.store.records import HEADER_BYTES, Block, BlockHeader, Encoding

Planes = npt.NDArray[np.uint8]  # [rows, n]
Rows = npt.NDArray[np.uint8]  # [n, bytes of a record]
_LEVELS = 255
_BELOW_ONE = np.nextafter(np.float16(1), np.float16(0))
_SMALLEST = np.float32(0.25)  # what code 0 stands for, in levels: a stored class never decodes to zero


def plane_rows(encoding: Encoding, length: int, topk: int, num_classes: int) -> int:
    """Rows of a block of ``length`` records."""
    return _header_rows(length) + row_bytes(encoding, topk, num_classes)


def encode(block: Block, header: BlockHeader) -> Planes:
    """A block as planes: uint8 [rows, n]."""
    _assert_encodable(block, header)
    length = header.length
    first = np.zeros(_header_rows(length) * length, dtype=np.uint8)
    first[:HEADER_BYTES] = np.frombuffer(header.pack(), dtype=np.uint8)
    parts = [first.reshape(-1, length), _encode_classes(block.indices, header.num_classes)]
    if header.encoding == "compact":
        parts += [_encode_probs(block.probs).T, _bytes_of(_half_residual(block.residual))]
    else:
        parts += [_byte_planes(block.probs.T), _bytes_of(block.residual)]
    parts += [_bytes_of(block.seeds), _bytes_of(block.digests), block.status[None]]
    return np.concatenate(parts)


def read_header(planes: Planes) -> BlockHeader | None:
    """The header of a block; None where the planes do not begin with one."""
    data = planes[: _header_rows(planes.shape[1])].tobytes()
    return BlockHeader.unpack(data[:HEADER_BYTES])


def decode(planes: Planes, header: BlockHeader) -> Block:
    """The records of a block, as arrays of their own."""
    return decode_rows(rows_of(planes), header.encoding, header.topk, header.num_classes)


def row_bytes(encoding: Encoding, topk: int, num_classes: int) -> int:
    """Bytes of an encoded record, before zstd."""
    return topk * (_class_bytes(num_classes) + _prob_bytes(encoding)) + _tail_rows(encoding)


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
    width = 2 if encoding == "compact" else 4
    widths = topk * _class_bytes(num_classes), topk * _prob_bytes(encoding), width, 4, 4, 1
    parts = (rows[:, end - each : end] for each, end in zip(widths, accumulate(widths), strict=True))
    classes, probs, residuals, seeds, digests, status = parts
    residual = _from_bytes(residuals, np.float16 if width == 2 else np.float32).astype(np.float32)
    there = status[:, 0] == 0
    return Block(
        indices=_decode_classes(classes, topk),
        probs=_decode_probs(probs, residual, there) if encoding == "compact" else _join_bytes(probs, topk),
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
    return (2 if encoding == "compact" else 4) + 4 + 4 + 1


def _prob_bytes(encoding: Encoding) -> int:
    return 1 if encoding == "compact" else 4


def _class_bytes(num_classes: int) -> int:
    return max(1, ((num_classes - 1).bit_length() + 7) // 8)


def _encode_classes(indices: npt.NDArray[np.int32], num_classes: int) -> Planes:
    deltas = np.diff(indices.T, axis=0, prepend=0).astype("<u4")  # [K, n]
    width = _class_bytes(num_classes)
    return _byte_planes(deltas)[: len(deltas) * width]


def _decode_classes(rows: Rows, topk: int) -> npt.NDArray[np.int32]:
    width = rows.shape[1] // topk
    parts = rows.reshape(len(rows), width, topk)
    deltas = parts[:, -1].astype(np.int32)
    for number in reversed(range(width - 1)):
        deltas <<= 8
        deltas |= parts[:, number]
    return np.add.accumulate(deltas, axis=1, out=deltas)


def _encode_probs(probs: npt.NDArray[np.float32]) -> Planes:
    """Square-root codes [n, K]; a record's largest probability alone has its largest code."""
    codes = np.rint(np.sqrt(probs) * np.float32(_LEVELS)).astype(np.uint8)
    rows = np.arange(len(codes))
    best = probs.argmax(axis=1)
    tied = (codes == codes[rows, best][:, None]).sum(axis=1) > 1
    # Two codes can only be equal below 1/2, so there is room above.
    codes[rows, best] += tied
    return codes


def _decode_probs(
    codes: Rows, residual: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    probs = np.maximum(codes, _SMALLEST, dtype=np.float32)  # [n, K]
    probs *= probs
    # Whatever the order of its terms, this sum is exact, so that a record decodes alike in any company.
    scale = (1 - residual) * valid / probs.sum(axis=1, dtype=np.float32)
    probs *= scale[:, None]
    return probs


def _half_residual(residual: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    """Residual in float16.

    Clamped at zero, since float16 probabilities can sum to more than 1; and below 1, since a residual that
    rounds up to 1 would leave nothing for the stored classes.
    """
    return np.clip(residual, 0, _BELOW_ONE).astype("<f2")


def _byte_planes(values: npt.NDArray[np.generic]) -> Planes:
    """[rows, n] of w-byte values to [w * rows, n]: all lowest bytes first."""
    rows, length = values.shape
    width = values.dtype.itemsize
    little = np.ascontiguousarray(values).view(np.uint8).reshape(rows, length, width)
    return np.ascontiguousarray(little.transpose(2, 0, 1)).reshape(width * rows, length)


def _join_bytes(rows: Rows, topk: int) -> npt.NDArray[np.float32]:
    """[n, 4 * K] bytes, all lowest first, to [n, K] of float32."""
    return rows.reshape(len(rows), 4, topk).transpose(0, 2, 1).copy().view(np.float32)[..., 0]


def _bytes_of(values: npt.NDArray[np.generic]) -> Planes:
    return _byte_planes(values[None])


def _from_bytes(rows: Rows, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return rows.copy().view(dtype)[:, 0]
