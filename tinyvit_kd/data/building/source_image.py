"""The place of one source image's bytes, and how they are read from there."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import NamedTuple

from tinyvit_kd.data.shard_files import ShardFiles
from tinyvit_kd.errors import ShardError

NONE = -1  # value of fields that only some zip members have


class Image(NamedTuple):
    """The place of one image's bytes."""

    file: Path
    name: str  # relative to the folder, tar or zip of its class
    offset: int  # of the first byte in the file
    size: int  # bytes in the file
    unpacked_size: int = NONE  # bytes once inflated; -1: not deflated
    crc32: int = NONE  # of the unpacked bytes; -1: unknown
    column: str = ""  # of the table that ``file`` is, whose row ``offset`` holds the bytes; empty: it is no table


def read_image(image: Image, files: ShardFiles) -> bytes:
    """Read the encoded bytes of an image.

    Raises:
        ShardError: its file is missing, has changed since it was listed, or is damaged.
    """
    try:
        content = files.read(image.file, image.offset, image.size)
    except ShardError as error:
        raise ShardError(
            "an image of the source cannot be read",
            where=f"{image.name} in {image.file}" if image.offset else str(image.file),
            found=error.found,
            expected=error.expected,
            fix="restore it, then run the same command again; without it, build into another folder",
        ) from None
    if image.unpacked_size != NONE:
        content = _inflate(image, content)
    if image.crc32 not in (NONE, zlib.crc32(content)):
        raise bad_zip(image.file, f"{image.name}: its checksum is not the one in the zip's directory")
    return content


def read_head(image: Image, files: ShardFiles, count: int) -> bytes:
    """The first ``count`` bytes of an image, or all of a shorter one; nothing of a damaged one."""
    if image.unpacked_size == NONE:
        return files.read_at_most(image.file, image.offset, min(count, image.size))
    packed = files.read_at_most(image.file, image.offset, min(image.size, 16 * count + 1024))
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, count)
    except zlib.error:
        return b""


def bad_zip(path: Path, found: str) -> ShardError:
    """The error of a damaged zip."""
    return ShardError("cannot read a zip of images", where=str(path), found=found, fix="copy it again, or repack it")


def _inflate(image: Image, content: bytes) -> bytes:
    try:
        # At most one byte more than expected, which the checksum then reveals: a zip bomb is not unpacked.
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, image.unpacked_size + 1)
    except zlib.error as error:
        raise bad_zip(image.file, f"{image.name}: {error}") from None
