"""Refuses what is no plain tar, or a damaged one."""

from __future__ import annotations

from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.data.tars.heads import BLOCK_BYTES, COMPRESSED, other_kind
from tinyvit_kd.errors import ShardError


def refuse_other_formats(files: ShardFiles, tar: Location) -> None:
    """Refuse what is known to be no plain tar.

    Raises:
        ShardError: the file is compressed, or of another kind; the message says of which.
    """
    head = files.read_at_most(tar, 0, BLOCK_BYTES)
    found, fix = other_kind(head)
    if found and head.startswith(tuple(COMPRESSED)):
        raise ShardError(
            "the shard is compressed, so its samples cannot be read in random order",
            where=files.describe(tar),
            expected="a plain tar",
            fix=fix,
        )
    if found:
        raise ShardError(
            "the file is not a tar", where=files.describe(tar), found=found, expected="a plain tar", fix=fix
        )


def damaged(files: ShardFiles, tar: Location, found: str) -> ShardError:
    """The error for a tar that ends too early, or in which a header is wrong."""
    return ShardError(
        "the shard is truncated or damaged",
        where=files.describe(tar),
        found=found,
        expected="a complete plain tar",
        fix="remove that file, so that it is fetched again" if is_url(str(tar)) else "copy or build it again",
    )
