"""Shards that lie elsewhere: whatever webdataset can open, fetched whole, and the names of their copies."""

from __future__ import annotations

import errno
import io
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import xxhash

from tinyvit_kd.data.locating.fetch_errors import NoHandlerError, unreachable
from tinyvit_kd.data.tars.heads import BLOCK_BYTES, is_header, other_kind
from tinyvit_kd.errors import ConfigError, ShardError
from tinyvit_kd.runtime.files import atomic_path
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.watchdog import doing

_COPIED = 1 << 20  # bytes at a time
_ABANDONED = 3600.0  # seconds without growth, after which a file is not being fetched any more


def require_cache(url: str, cache_dir: Path | None) -> Path:
    """The folder for fetched shards.

    Raises:
        ConfigError: there is none.
    """
    if cache_dir is None:
        raise no_cache(url)
    return cache_dir


def no_cache(url: str, found: str = "") -> ConfigError:
    """The error for a URL whose files are fetched whole, where there is no folder for them."""
    return ConfigError(
        "shards from URLs need a folder on this machine in which they are kept",
        where=url,
        found=found or "no cache_dir",
        fix="set shards.cache_dir, or give --cache-dir to shards index, info and check",
    )


def cache_name(url: str) -> str:
    """The file name of a fetched URL: its last part, after a hash of the whole.

    webdataset's own names are the last part alone, which shard sets share: ``train-000000.tar``.
    """
    tail = re.sub(r"[^\w.-]", "_", url.rpartition("/")[2])
    return f"{xxhash.xxh3_64_hexdigest(url.encode())}-{tail[-80:]}"


def read_url(url: str) -> bytes:
    """The bytes behind a URL.

    Raises:
        ShardError: it cannot be read.
    """
    content = io.BytesIO()
    with saying(f"fetching {url}"):
        _copy(url, content)
    return content.getvalue()


def fetch_whole(url: str, path: Path) -> None:
    """Fetch a tar by whatever webdataset has for its URL, whole or not at all.

    Raises:
        ShardError: the URL cannot be fetched, or what is there is not a tar.
        OSError: the disk is full.
    """
    doing(f"fetching {url}")
    with atomic_path(path) as aside, saying(f"fetching {url}"):
        with aside.open("wb") as file:
            _copy(url, file)
        require_tar(url, aside)


def _copy(url: str, file: BinaryIO) -> None:
    """Copy what is behind a URL.

    Raises:
        ShardError: it cannot be read.
        OSError: the disk is full.
    """
    from webdataset.gopen import gopen, gopen_schemes

    stream: Any = None
    try:
        if urlsplit(url).scheme not in (*gopen_schemes, "file"):
            raise NoHandlerError
        with gopen(url) as stream:
            shutil.copyfileobj(stream, file, _COPIED)
    except Exception as error:  # gopen's handlers, some of them plug-ins, raise what they like
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise unreachable(url, error, getattr(stream, "status", None)) from None


def require_tar(url: str, path: Path) -> None:
    """Check by its first bytes that what was fetched is a tar.

    Raises:
        ShardError: it is none; it says what it is instead.
    """
    with path.open("rb") as file:
        head = file.read(BLOCK_BYTES)
    found, fix = other_kind(head)
    if not found and not is_header(head) and head != bytes(BLOCK_BYTES):
        found, fix = (f"bytes that begin with {head[:8].hex(' ')}" if head else "nothing"), "check the URL"
    if found.startswith("text"):
        fix = "check the URL: the server may have reported an error in the place of the tar"
    if found:
        raise ShardError("what was fetched is not a tar", where=url, found=found, expected="a plain tar", fix=fix)


def remove_abandoned(kept: Path) -> None:
    """Remove what killed processes left of this file: ours, and those of the versions that fetched by webdataset."""
    for path in [*kept.parent.glob(f".{kept.name}.*.partial"), *kept.parent.glob(f"{kept.name}.temp*")]:
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()
