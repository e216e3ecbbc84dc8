"""The bytes of a block's file: zarr's codecs ``bytes``, ``zstd`` and ``crc32c``, by the libraries behind them.

zarr itself is not called. It works in threads of its own, which a machine may refuse; its user's settings may name
other codecs; and it unpacks whatever a file says that it holds. Whoever has zarr can read these files with it.
"""

from __future__ import annotations

import google_crc32c
import numpy as np
from numcodecs import zstd

from tinyvit_kd.runtime.foreign_errors import is_zstd_out_of_memory
from tinyvit_kd.store.encodings import Planes

_LEVEL = 1
_CHECKSUM_BYTES = 4
_MAGIC = b"\x28\xb5\x2f\xfd"  # of a zstd frame: RFC 8878, section 3.1.1


def pack(planes: Planes) -> bytes:
    """What the file of a block holds: its planes [rows, n], compressed, and a checksum behind them."""
    try:
        packed: bytes = zstd.compress(np.ascontiguousarray(planes), _LEVEL)
    except RuntimeError as error:
        if is_zstd_out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise
    return packed + _checksum(packed)


def unpack(content: bytes, shape: tuple[int, int]) -> Planes:
    """The planes in the file of a block. No more memory is used than ``shape`` says, whatever the file says.

    Args:
        content: of the file.
        shape: (rows, n) of the planes.

    Raises:
        ValueError: the content is not that of planes of this shape.
        MemoryError: there is too little for planes of this shape.
    """
    packed, checksum = content[:-_CHECKSUM_BYTES], content[-_CHECKSUM_BYTES:]
    if checksum != _checksum(packed):
        raise ValueError("its checksum is wrong")
    size = _unpacked_size(packed)
    if size != shape[0] * shape[1]:
        raise ValueError(f"it says that it unpacks to {size:,} bytes, and a block here has {shape[0] * shape[1]:,}")
    planes = np.empty(shape, dtype=np.uint8)
    try:
        zstd.decompress(packed, planes)
    except (RuntimeError, ValueError) as error:  # the latter where further frames follow
        if is_zstd_out_of_memory(error):
            raise MemoryError(str(error)) from error
        raise ValueError(f"it cannot be unpacked ({error})") from error
    return planes


def largest_file(shape: tuple[int, int]) -> int:
    """Bytes that the file of a block with planes [rows, n] has at most, whatever zstd adds to it."""
    size = shape[0] * shape[1]
    return size + size // 128 + 1024


def _checksum(packed: bytes) -> bytes:
    value: int = google_crc32c.value(packed)
    return value.to_bytes(_CHECKSUM_BYTES, "little")


def _unpacked_size(packed: bytes) -> int:
    """The size that the header of a zstd frame states, as our writer's always do; -1 if it states none.

    ``Frame_Header`` of RFC 8878, section 3.1.1.1.
    """
    if len(packed) < 6 or packed[:4] != _MAGIC:
        return -1
    descriptor = packed[4]
    single_segment = descriptor >> 5 & 1
    width = (single_segment, 2, 4, 8)[descriptor >> 6]
    if not width:
        return -1
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]  # behind the window and the dictionary's number
    size = int.from_bytes(packed[start : start + width], "little")
    return size + 256 if width == 2 else size
