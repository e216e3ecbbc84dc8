"""Indexes on disk: made once, kept beside their shards, made again when a shard has changed."""

from __future__ import annotations

import io
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import xxhash

from tinyvit_kd.data.index import ShardIndex, scan_tar
from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.errors import ShardError, reason_of
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.log import warn_once

FORMAT_VERSION = 1
_SUFFIX = ".idx.npz"  # behind the name of the shard
_ENDS = 1 << 14  # bytes at both ends of a tar that its fingerprint covers


def load_index(tar: Location, index_dir: Path | None = None, files: ShardFiles | None = None) -> ShardIndex:
    """The index of a shard: read where it is kept, else made and, where that can be written, kept.

    Args:
        tar: the shard.
        index_dir: where indexes are kept; none: beside the shard, and only in memory if that is read-only.
        files: what reads the shard; None: paths on this machine.

    Raises:
        ShardError: the tar is missing, compressed, truncated or damaged, or ``index_dir`` cannot be written.
    """
    files = files or ShardFiles()
    kept = _Kept(files, tar, index_dir, tar_fingerprint(files, tar))
    index = kept.read()
    if index is None:
        index = scan_tar(tar, files)
        kept.write(index)
    return index


def tar_fingerprint(files: ShardFiles, tar: Location) -> int:
    """64 bits over size, time of change and both ends of a file, cheap enough to be taken whenever it is opened.

    The time, because a label that was corrected in the midst of a tar changes neither its size nor its ends.
    """
    info = files.info(tar)
    head = files.read_at_most(tar, 0, _ENDS)
    tail = files.read_at_most(tar, max(0, info.size - _ENDS), _ENDS)
    numbers = np.array([info.size, info.modified_ns], dtype="<i8").tobytes()
    return xxhash.xxh3_64_intdigest(numbers + head + tail)


@dataclass(frozen=True)
class _Kept:
    """Where the index of a shard is kept, and for which state of the shard it is good."""

    files: ShardFiles
    tar: Location
    index_dir: Path | None
    fingerprint: int

    def read(self) -> ShardIndex | None:
        """The index that is kept; None where there is none, or it is damaged, or of another state."""
        try:
            content = self._path.read_bytes() if self.index_dir else self.files.read_beside(self.tar, _SUFFIX)
            return None if content is None else _from_bytes(content, self.fingerprint)
        except Exception:  # a damaged archive makes zipfile and numpy raise nearly anything
            return None

    def write(self, index: ShardIndex) -> None:
        """Keep an index; where that is refused beside the shard, warn.

        Raises:
            ShardError: ``index_dir`` cannot be written.
        """
        content = _to_bytes(index, self.fingerprint)
        try:
            if self.index_dir is not None:
                atomic_write(self._path, content)
                return
            self.files.write_beside(self.tar, _SUFFIX, content)
        except OSError as error:
            if self.index_dir is not None:
                raise ShardError(
                    "cannot write an index into index_dir",
                    where=str(self._path),
                    found=reason_of(error),
                    fix="choose a folder that can be written",
                ) from None
            folder = str(self.tar).rpartition("/")[0]
            warn_once(
                folder,
                f"{self.tar}{_SUFFIX} cannot be written: every process walks through these shards (see shards index "
                "--index-dir)",
            )

    @property
    def _path(self) -> Path:
        # Shards of different sets may share a name, but not a fingerprint.
        assert self.index_dir is not None
        return self.index_dir / f"{self.files.base_name(self.tar)}.{self.fingerprint:016x}{_SUFFIX}"


def _from_bytes(content: bytes, fingerprint: int) -> ShardIndex | None:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        if arrays["version"] != FORMAT_VERSION or int(arrays["fingerprint"]) != fingerprint:
            return None
        index = ShardIndex(**{field.name: arrays[field.name] for field in fields(ShardIndex)})
    same = len({len(index.offsets), len(index.sizes), len(index.labels), len(index.key_ends)}) == 1
    return index if same else None


def _to_bytes(index: ShardIndex, fingerprint: int) -> bytes:
    content = io.BytesIO()
    arrays = {field.name: getattr(index, field.name) for field in fields(ShardIndex)}
    np.savez(content, version=np.int64(FORMAT_VERSION), fingerprint=np.uint64(fingerprint), **arrays)
    return content.getvalue()
