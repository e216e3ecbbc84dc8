"""Shards that lie elsewhere: whatever webdataset can open, through its file cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import xxhash

from tinyvit_kd.errors import ConfigError, ShardError


def is_url(location: str) -> bool:
    """Whether webdataset, not the file system, has to open this."""
    return "://" in location or location.startswith("pipe:")


def local_file(location: str, cache_dir: Path | None) -> Path:
    """The file that holds a shard on this machine; a URL is fetched once.

    Args:
        location: a path or a URL.
        cache_dir: where fetched shards are kept.

    Raises:
        ShardError: the URL cannot be fetched, or what is there is not a tar.
        ConfigError: there is a URL and no ``cache_dir``.
    """
    if not is_url(location):
        return Path(location)
    if cache_dir is None:
        raise ConfigError(
            "shards from URLs need a folder on this machine",
            where="shards.cache_dir",
            found="null",
            fix="set it",
        )
    kept = cache_dir / cache_name(location)
    return kept if kept.exists() else _fetch(location, cache_dir)


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
    from webdataset.gopen import gopen

    try:
        with gopen(url) as stream:
            content: Any = stream.read()
    except Exception as error:  # gopen's handlers, some of them plug-ins, raise what they like
        raise _unreachable(url, error) from None
    return bytes(content)


def _fetch(url: str, cache_dir: Path) -> Path:
    from webdataset.cache import FileCache

    try:
        return Path(FileCache(str(cache_dir), url_to_name=cache_name).get_file(url))
    except Exception as error:  # as above
        raise _unreachable(url, error) from None


def _unreachable(url: str, error: Exception) -> ShardError:
    return ShardError(
        "cannot fetch a file of the shard set",
        where=url,
        found=f"{type(error).__name__}: {error}",
        fix="check the URL and the connection, then run again; files that were fetched whole are kept",
    )
