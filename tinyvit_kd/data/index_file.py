"""Indexes on disk: made once, kept beside their shards, made again when a shard has changed."""

from __future__ import annotations

import io
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import xxhash

from tinyvit_kd.data.index import ShardIndex, scan_tar
from tinyvit_kd.errors import ShardError
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.log import warn_once

FORMAT_VERSION = 1
_ENDS = 1 << 14  # bytes at both ends of a tar that its fingerprint covers


def load_index(tar: Path, index_dir: Path | None = None) -> ShardIndex:
    """The index of a shard: read where it is kept, else made and, where that can be written, kept.

    Args:
        tar: the shard.
        index_dir: where indexes are kept; none: beside the shard, and only in memory if that is read-only.

    Raises:
        ShardError: the tar is missing, compressed, truncated or damaged, or ``index_dir`` cannot be written.
    """
    fingerprint = tar_fingerprint(tar)
    path = _index_path(tar, index_dir, fingerprint)
    index = _read(path, fingerprint)
    if index is None:
        index = scan_tar(tar)
        _keep(path, _to_bytes(index, fingerprint), required=index_dir is not None)
    return index


def tar_fingerprint(tar: Path) -> int:
    """64 bits over size, time of change and both ends of a file, cheap enough to be taken whenever it is opened.

    The time, because a label that was corrected in the midst of a tar changes neither its size nor its ends.
    """
    try:
        with tar.open("rb") as file:
            status = os.fstat(file.fileno())
            size, changed = status.st_size, status.st_mtime_ns
            head = file.read(_ENDS)
            file.seek(max(0, size - _ENDS))
            tail = file.read(_ENDS)
    except OSError as error:
        raise ShardError("cannot read a shard", where=str(tar), found=error.strerror or str(error)) from None
    numbers = np.array([size, changed], dtype="<i8").tobytes()
    return xxhash.xxh3_64_intdigest(numbers + head + tail)


def _index_path(tar: Path, index_dir: Path | None, fingerprint: int) -> Path:
    if index_dir is None:
        return tar.with_name(f"{tar.name}.idx.npz")
    # Shards of different sets may share a name, but not a fingerprint.
    return index_dir / f"{tar.name}.{fingerprint:016x}.idx.npz"


def _read(path: Path, fingerprint: int) -> ShardIndex | None:
    try:
        # np.load leaves a file that it opened itself open when it is no archive.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            if arrays["version"] != FORMAT_VERSION or int(arrays["fingerprint"]) != fingerprint:
                return None
            index = ShardIndex(**{field.name: arrays[field.name] for field in fields(ShardIndex)})
    except Exception:  # a damaged archive makes zipfile and numpy raise nearly anything
        return None
    same = len({len(index.offsets), len(index.sizes), len(index.labels), len(index.key_ends)}) == 1
    return index if same else None


def _to_bytes(index: ShardIndex, fingerprint: int) -> bytes:
    content = io.BytesIO()
    arrays = {field.name: getattr(index, field.name) for field in fields(ShardIndex)}
    np.savez(content, version=np.int64(FORMAT_VERSION), fingerprint=np.uint64(fingerprint), **arrays)
    return content.getvalue()


def _keep(path: Path, content: bytes, required: bool) -> None:
    try:
        atomic_write(path, content)
    except OSError as error:
        if not required:
            warn_once(
                path.parent,
                f"{path} cannot be written: every process walks through these shards (see shards index --index-dir)",
            )
        else:
            raise ShardError(
                "cannot write an index into index_dir",
                where=str(path),
                found=error.strerror or str(error),
                fix="choose a folder that can be written",
            ) from None
