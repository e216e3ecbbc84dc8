"""Copies one block from a store to another, as it is, and checks it on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tinyvit_kd.errors import (
    BlockCorruptError,
    BlockMissingError,
    StoreError,
    StoreUnreadableError,
    said_by,
    what_to_do,
)
from tinyvit_kd.storage.base import FileInfo
from tinyvit_kd.store.names import block_name
from tinyvit_kd.store.store import LogitStore

Outcome = Literal[
    "copied",
    "there",  # the same block is in the target already
    "replaced",  # another or a damaged one was
    "gone",  # from the source, since it was listed
    "damaged",  # in the source: not copied
    "unread",  # the system refuses to read it
    "differs",  # the target has another block, or a damaged one, which is kept
    "changed",  # what the target gives back is not what was written
]
FAULTS: tuple[Outcome, ...] = ("damaged", "unread", "differs", "changed")
_TAIL = 4  # bytes of a checksum of all that precedes it, at the end of a block's file


@dataclass(frozen=True)
class BlockCopy:
    """What came of copying a block.

    Attributes:
        bytes: that were written.
        where: path or URL of what is wrong.
        reason: what is wrong with it.
    """

    outcome: Outcome
    bytes: int = 0
    where: str = ""
    reason: str = ""


def copy_block(
    source: LogitStore, target: LogitStore, shard: int, view: int, *, replace: bool = False, verify: bool = False
) -> BlockCopy:
    """Copy the file of a block, byte for byte, once its checksum and header have been checked.

    A block that the target has is compared by its size and its checksum; with ``verify``, byte by byte.

    Args:
        replace: also write it where the target has another block, or a damaged one.
        verify: read it back.

    Raises:
        StoreError: the target cannot be written.
    """
    present = _present(target, shard, view)
    try:
        if present is not None and not verify and _seems_same(source, target, shard, view, present.size):
            return BlockCopy("there")
        content = source.read_file(shard, view)
        source.unpack(shard, view, content)
    except BlockMissingError:
        return BlockCopy("gone")
    except BlockCorruptError as error:
        return BlockCopy("damaged", where=source.block_location(shard, view), reason=_said(error))
    except (StoreError, OSError) as error:
        return BlockCopy("unread", where=source.block_location(shard, view), reason=_said(error))
    if present is not None:
        reason = _difference(target, shard, view, present.size, content)
        if not reason:
            return BlockCopy("there")
        if not replace:
            return BlockCopy("differs", where=target.block_location(shard, view), reason=reason)
    _write(target, shard, view, content)
    if verify and (found := _read_back(target, shard, view)) != content:
        reason = f"{len(found):,} bytes that are not the {len(content):,} written"
        return BlockCopy("changed", where=target.block_location(shard, view), reason=reason)
    return BlockCopy("copied" if present is None else "replaced", bytes=len(content))


def _present(target: LogitStore, shard: int, view: int) -> FileInfo | None:
    try:
        return target.storage.info(block_name(shard, view))
    except OSError as error:
        raise StoreUnreadableError(
            "it cannot be seen whether a block is in the target",
            where=target.block_location(shard, view),
            found=said_by(error),
            fix=what_to_do(error, "check the disk or the connection, then run the same command again: it goes on"),
        ) from error


def _seems_same(source: LogitStore, target: LogitStore, shard: int, view: int, size: int) -> bool:
    """Whether both files have the same size and the same checksum at their ends, for which neither is read whole."""
    name = block_name(shard, view)
    info = source.storage.info(name)
    if info is None or info.size != size or size < _TAIL:
        return False
    ends = [store.storage.read_range(name, size - _TAIL, _TAIL) for store in (source, target)]
    return ends[0] == ends[1]


def _difference(target: LogitStore, shard: int, view: int, size: int, content: bytes) -> str:
    """How the target's block differs from the content of the source's, in words; empty if it does not."""
    if size != len(content):
        return f"{size:,} bytes, and the source's has {len(content):,}"
    try:
        found = target.read_file(shard, view)
        if found == content:
            return ""
        target.unpack(shard, view, found)
    except StoreError as error:
        return _said(error)
    return "whole, with other records than the source's"


def _read_back(target: LogitStore, shard: int, view: int) -> bytes:
    try:
        return target.storage.read(block_name(shard, view))
    except FileNotFoundError:
        return b""


def _write(target: LogitStore, shard: int, view: int, content: bytes) -> None:
    try:
        target.storage.write(block_name(shard, view), content, target.fsync)
    except OSError as error:
        raise StoreError(
            "a block cannot be written",
            where=target.block_location(shard, view),
            found=said_by(error),
            fix=what_to_do(
                error, "check the space and the permissions there, then run the same command again: it goes on"
            ),
        ) from error


def _said(error: Exception) -> str:
    if not isinstance(error, StoreError):
        return said_by(error)
    return "; ".join(part for part in (error.what, error.found) if part)
