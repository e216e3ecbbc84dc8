"""What lies where in a plain tar. Nothing is ever unpacked, so a member's name is only a name."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from typing import NamedTuple

from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.errors import ShardError

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZ": "bunzip2", b"\xfd7": "unxz", b"\x28\xb5": "unzstd"}
# What tarfile has been seen to raise on damaged headers, beside its own errors.
_DAMAGE = (tarfile.TarError, OSError, ValueError, EOFError, IndexError, OverflowError, RecursionError)


class Member(NamedTuple):
    """A regular file inside a tar."""

    name: str  # bytes that are not UTF-8 are kept as surrogate escapes
    offset: int  # where its content begins, bytes from the start of the tar
    size: int  # of its content, bytes


def tar_members(files: ShardFiles, tar: Location) -> Iterator[Member]:
    """The regular files of a plain tar, in order; links, folders, devices and sparse files are passed over.

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
                if member.size < 0:  # would send tarfile backwards, for ever
                    raise tarfile.ReadError(f"negative size of {member.name!r}")
                if member.isreg() and not member.issparse():
                    yield Member(member.name, member.offset_data, member.size)
            end = archive.offset
    except ShardError:
        raise
    except _DAMAGE as error:
        raise _damaged(tar, str(error)) from None
    _require_end_mark(files, tar, end)


def _refuse_compressed(files: ShardFiles, tar: Location) -> None:
    magic = files.read_at_most(tar, 0, 2)
    if magic in _COMPRESSED:
        raise ShardError(
            "the shard is compressed, which leaves no random access",
            where=str(tar),
            expected="a plain tar",
            fix=f"unpack it once with {_COMPRESSED[magic]}",
        )


def _require_end_mark(files: ShardFiles, tar: Location, end: int) -> None:
    # tarfile takes a damaged header for the end of the archive; only a block of zeros is one.
    if files.read_at_most(tar, end, tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        size = files.info(tar).size
        raise _damaged(tar, f"no end mark after the last member, at byte {end:,} of {size:,}")


def _damaged(tar: Location, found: str) -> ShardError:
    return ShardError(
        "the shard is truncated or damaged",
        where=str(tar),
        found=found,
        expected="a whole plain tar",
        fix="copy or build it again",
    )
