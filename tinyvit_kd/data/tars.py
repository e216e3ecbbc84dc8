"""What lies where in a plain tar. Nothing is ever unpacked, so a member's name is only a name."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tinyvit_kd.errors import ShardError

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}
# What tarfile has been seen to raise on damaged headers, beside its own errors.
_DAMAGE = (tarfile.TarError, OSError, ValueError, EOFError, IndexError, OverflowError, RecursionError)


class Member(NamedTuple):
    """A regular file inside a tar."""

    name: str  # bytes that are not UTF-8 are kept as surrogate escapes
    offset: int  # where its content begins, bytes from the start of the tar
    size: int  # of its content, bytes


def tar_members(path: Path) -> Iterator[Member]:
    """The regular files of a plain tar, in order; links, folders, devices and sparse files are passed over.

    Raises:
        ShardError: the tar is missing, compressed, truncated or damaged.
    """
    _refuse_compressed(path)
    try:
        with tarfile.open(path, "r:", encoding="utf-8", errors="surrogateescape") as tar:
            for member in tar:
                if member.size < 0:  # would send tarfile backwards, for ever
                    raise tarfile.ReadError(f"negative size of {member.name!r}")
                if member.isreg() and not member.issparse():
                    yield Member(member.name, member.offset_data, member.size)
            end = tar.offset
    except _DAMAGE as error:
        raise _damaged(path, str(error)) from None
    _require_end_mark(path, end)


def _refuse_compressed(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(2)
    except OSError as error:
        raise ShardError("cannot read a shard", where=str(path), found=error.strerror or str(error)) from None
    if magic in _COMPRESSED:
        raise ShardError(
            "the shard is compressed, which leaves no random access",
            where=str(path),
            expected="a plain tar",
            fix=f"unpack it once with {_COMPRESSED[magic]}",
        )


def _require_end_mark(path: Path, end: int) -> None:
    # tarfile takes a damaged header for the end of the archive; only a block of zeros is one.
    with path.open("rb") as file:
        file.seek(end)
        block = file.read(tarfile.BLOCKSIZE)
    if block != bytes(tarfile.BLOCKSIZE):
        size = os.path.getsize(path)
        raise _damaged(path, f"no end mark after the last member, at byte {end:,} of {size:,}")


def _damaged(path: Path, found: str) -> ShardError:
    return ShardError(
        "the shard is truncated or damaged",
        where=str(path),
        found=found,
        expected="a whole plain tar",
        fix="copy or build it again",
    )
