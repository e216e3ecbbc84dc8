"""Lists the files in a plain tar. Nothing is ever unpacked, so a member's name cannot do harm as a path."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.errors import ShardError

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}
# Errors that tarfile is known to raise on damaged headers.
_DAMAGE = (tarfile.TarError, OSError, ValueError, EOFError, IndexError, OverflowError, RecursionError)


class Member(NamedTuple):
    """A regular file inside a tar."""

    name: str  # bytes that are not UTF-8 are kept as surrogate escapes
    offset: int  # of the content's first byte, counted from the start of the tar
    size: int  # of the content, bytes


def tar_members(files: ShardFiles, tar: Location) -> Iterator[Member]:
    """Yield the regular files of a plain tar, in order; links, folders, devices and sparse files are skipped.

    Raises:
        ShardError: the tar is missing, compressed, truncated or damaged.
    """
    _refuse_compressed(files, tar)
    try:
        with (
            files.stream(tar) as stream,
            tarfile.open(fileobj=stream, mode="r:", encoding="utf-8", errors="surrogateescape") as archive,
        ):
            for member in archive:
                if member.size < 0:  # tarfile would read backwards, forever
                    raise tarfile.ReadError(f"negative size of {member.name!r}")
                if member.isreg() and not member.issparse():
                    yield Member(member.name, member.offset_data, member.size)
            end = archive.offset
    except ShardError:
        raise
    except _DAMAGE as error:
        raise _damaged(tar, str(error)) from None
    _require_end_block(files, tar, end)


def _refuse_compressed(files: ShardFiles, tar: Location) -> None:
    magic = files.read_at_most(tar, 0, 2)
    if magic in _COMPRESSED:
        raise ShardError(
            "the shard is compressed, so its samples cannot be read in random order",
            where=str(tar),
            expected="a plain tar",
            fix=f"decompress it once with {_COMPRESSED[magic]}",
        )


def _require_end_block(files: ShardFiles, tar: Location, end: int) -> None:
    # tarfile takes a damaged header for the end of the archive. A real end is a block of zeros.
    if files.read_at_most(tar, end, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        size = files.info(tar).size
        raise _damaged(tar, f"no block of zeros after the last member, at byte {end:,} of {size:,}")


def _damaged(tar: Location, found: str) -> ShardError:
    return ShardError(
        "the shard is truncated or damaged",
        where=str(tar),
        found=found,
        expected="a complete plain tar",
        fix="copy or build it again",
    )
