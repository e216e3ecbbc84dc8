"""Where a copy of a shard comes from: a storage, webdataset's programs, or a path."""

from __future__ import annotations

import os
from pathlib import Path

from tinyvit_kd.data.locating.remote import fetch_whole, require_tar
from tinyvit_kd.data.locating.served import located
from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.errors import ShardError, reason_of
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.refusals import is_full_disk
from tinyvit_kd.runtime.watchdog import doing
from tinyvit_kd.storage.base import FileInfo, Storage
from tinyvit_kd.storage.local import LocalStorage


def source_info(location: str) -> FileInfo | None:
    """Size and modification time of a shard where it comes from; None where only fetching it would tell.

    Raises:
        ShardError: there is no such file, or it cannot be examined.
    """
    place = _storage_of(location)
    if place is None:
        return None
    storage, name = place
    doing(f"asking for {location}")
    try:
        info = storage.info(name)
    except OSError as error:
        raise _cannot(location, error) from None
    if info is None:
        raise ShardError("a shard is missing", where=location, found="no such file")
    return info


def fetch_shard(location: str, path: Path) -> None:
    """Copy a shard to a path, whole or not at all.

    Raises:
        ShardError: it cannot be fetched, or is not a tar.
        OSError: the disk is full.
    """
    place = _storage_of(location)
    if place is None:
        fetch_whole(location, path)
        return
    storage, name = place
    doing(f"fetching {location}")
    try:
        with saying(f"fetching {location}"):
            storage.fetch(name, path)
    except OSError as error:
        if is_full_disk(error):
            raise
        raise _cannot(location, error) from None
    try:
        require_tar(location, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _storage_of(location: str) -> tuple[Storage, str] | None:
    if not is_url(location):
        return LocalStorage(""), os.path.abspath(location)
    try:
        return located(location)
    except OSError as error:
        raise _cannot(location, error) from None


def _cannot(location: str, error: OSError) -> ShardError:
    return ShardError("cannot fetch a shard", where=location, found=reason_of(error))
