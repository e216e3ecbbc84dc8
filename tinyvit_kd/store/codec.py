"""Encodes blocks as bytes and decodes them.

An encoded block is uint8 planes [rows, n]: one row per byte of a field, one column per record. The rows are, in order:
header, class planes (ascending, delta-coded, the low bytes of all K first), probability planes, residual, seed, digest,
status. Zstd compresses best where bytes of one kind lie side by side. To read a few records of many blocks, transpose
each block once (``rows_of``) and decode rows of several blocks together.

How probabilities and residuals become bytes is up to the encoding (``store.encodings``).
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import Encoding
from tinyvit_kd.store.encodings import ENCODINGS, Planes, Rows, byte_planes
from tinyvit_kd.store.records import HEADER_BYTES, Block, BlockHeader, RecordStatus


def plane_rows(encoding: Encoding, length: int, topk: int, num_classes: int) -> int:
    """Number of rows of an encoded block with ``length`` records."""
    return _header_rows(length) + row_bytes(encoding, topk, num_classes)


def encode(block: Block, header: BlockHeader) -> Planes:
    """Encode a block as planes: uint8 [rows, n]."""
    _assert_encodable(block, header)
    length = header.length
    header_bytes = np.zeros(_header_rows(length) * length, dtype=np.uint8)
    header_bytes[:HEADER_BYTES] = np.frombuffer(header.pack(), dtype=np.uint8)
    encoding = ENCODINGS[header.encoding]
    return np.concatenate(
        [
            header_bytes.reshape(-1, length),
            _encode_classes(block.indices, header.num_classes),
            encoding.encode_probs(block.probs),
            _bytes_of(encoding.encode_residual(block.residual)),
            _bytes_of(block.seeds),
            _bytes_of(block.digests),
            block.status[None],
        ]
    )


def read_header(planes: Planes) -> BlockHeader | None:
    """The header of an encoded block; None if the planes do not begin with one."""
    data = planes[: _header_rows(planes.shape[1])].tobytes()
    return BlockHeader.unpack(data[:HEADER_BYTES])


def decode(planes: Planes, header: BlockHeader) -> Block:
    """Decode a block; the arrays are copies."""
    return decode_rows(rows_of(planes), header.encoding, header.topk, header.num_classes)


def row_bytes(encoding: Encoding, topk: int, num_classes: int) -> int:
    """Bytes per encoded record, before zstd."""
    return topk * (_class_bytes(num_classes) + ENCODINGS[encoding].prob_bytes) + _tail_rows(encoding)


def rows_of(planes: Planes, out: Rows | None = None) -> Rows:
    """Transpose a block without its header, so that each encoded record is one row: uint8 [n, bytes per record].

    A record's bytes then lie together in memory. Selecting some records is several times faster than from planes.

    Args:
        planes: an encoded block, uint8 [rows, n].
        out: where the copy goes; a new array by default.
    """
    rows = planes[_header_rows(planes.shape[1]) :].T
    if out is None:
        return rows.copy()
    out[:] = rows
    return out


def decode_rows(rows: Rows, encoding: Encoding, topk: int, num_classes: int) -> Block:
    """Decode encoded records, uint8 [n, bytes per record], of any blocks of one store; the arrays are copies."""
    chosen = ENCODINGS[encoding]
    residual_type = np.dtype(chosen.residual_type)
    widths = topk * _class_bytes(num_classes), topk * chosen.prob_bytes, residual_type.itemsize, 4, 4, 1
    parts = (rows[:, end - width : end] for width, end in zip(widths, accumulate(widths), strict=True))
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


class Parts(NamedTuple):
    """The fields of an encoded block that a check looks at, without copies where there need be none."""

    classes: npt.NDArray[np.uint8]  # [bytes per class, K, n], differences, the lowest byte first
    probs: Planes  # as an encoding made them
    residual: npt.NDArray[np.float32]  # [n]
    status: npt.NDArray[np.uint8]  # [n]


def split_planes(planes: Planes, header: BlockHeader) -> Parts:
    """The fields of an encoded block, uint8 [rows, n], in their planes."""
    encoding = ENCODINGS[header.encoding]
    residual_type = np.dtype(encoding.residual_type)
    width = _class_bytes(header.num_classes)
    widths = header.topk * width, header.topk * encoding.prob_bytes, residual_type.itemsize
    body = planes[_header_rows(header.length) :]
    classes, probs, residual = (body[end - width : end] for width, end in zip(widths, accumulate(widths), strict=True))
    return Parts(
        classes.reshape(width, header.topk, header.length),
        probs,
        _from_bytes(np.ascontiguousarray(residual.T), residual_type).astype(np.float32),
        body[-1],
    )


def field_planes(planes: Planes, header: BlockHeader) -> dict[str, Planes]:
    """The planes of an encoded block by field; of classes and probabilities of several bytes, by byte, lowest first."""
    encoding = ENCODINGS[header.encoding]
    rows = {
        "header": _header_rows(header.length),
        **_by_byte("classes", _class_bytes(header.num_classes), header.topk),
        **_by_byte("probabilities", encoding.prob_bytes, header.topk),
        "residual": np.dtype(encoding.residual_type).itemsize,
        "seeds": 4,
        "digests": 4,
        "status": 1,
    }
    return {
        name: planes[end - count : end]
        for (name, count), end in zip(rows.items(), accumulate(rows.values()), strict=True)
    }


def _by_byte(name: str, width: int, topk: int) -> dict[str, int]:
    return {name if width == 1 else f"{name}, byte {byte + 1}": topk for byte in range(width)}


def read_status(planes: Planes) -> npt.NDArray[np.uint8]:
    """The ``RecordStatus`` of each record of an encoded block: uint8 [n]."""
    status: npt.NDArray[np.uint8] = planes[-1]
    return status.copy()


def _assert_encodable(block: Block, header: BlockHeader) -> None:
    # Without these checks, wrong records would be stored silently and read back as something else.
    shape = (header.length, header.topk)
    assert block.indices.shape == block.probs.shape == shape, "the block has another size than its header says"
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
    for byte in reversed(range(width - 1)):
        deltas <<= 8
        deltas |= parts[:, byte]
    return np.add.accumulate(deltas, axis=1, out=deltas)


def _bytes_of(values: npt.NDArray[np.generic]) -> Planes:
    return byte_planes(values[None])


def _from_bytes(rows: Rows, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return rows.copy().view(dtype)[:, 0]
