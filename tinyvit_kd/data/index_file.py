"""Indexes on disk: made once, kept beside their shards, and made again when a shard has changed."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from tinyvit_kd.data.index import ShardIndex, scan_tar
from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.data.text_labels import NO_TEXTS, TextLabels
from tinyvit_kd.errors import ShardError, reason_of
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.log import warn_once

FORMAT_VERSION = 2  # 1 had no texts of labels
_SUFFIX = ".idx.npz"  # appended to the name of the shard
_LABEL_TEXTS = "label_text_"  # before the names of the arrays of texts
_COLUMNS = ("offsets", "sizes", "labels", "key_bytes", "key_ends")
_END_BYTES = 1 << 14  # bytes at each end of a tar that its fingerprint covers


def load_index(
    tar: Location, index_dir: Path | None = None, files: ShardFiles | None = None, label_key: str | None = None
) -> ShardIndex:
    """Read the index of a shard from its file; if there is none for this state of the shard, make it and keep it.

    Args:
        tar: path or URL of the shard.
        index_dir: where indexes are kept; None: beside the shard, or only in memory if that folder is read-only.
        files: reads the shard; by default a new ``ShardFiles``.
        label_key: the field of ``.json`` that is the label; None: the usual ones.

    Raises:
        ShardError: the tar is missing, compressed, truncated or damaged, or ``index_dir`` cannot be written.
    """
    files = files or ShardFiles()
    fingerprint = tar_fingerprint(files, tar)
    if label_key is not None:  # an index with other labels is another index
        fingerprint = xxhash.xxh3_64_intdigest(label_key.encode(), seed=fingerprint)
    index_file = _IndexFile(files, tar, index_dir, fingerprint)
    index = index_file.read()
    if index is None:
        index = scan_tar(tar, files, label_key)
        index_file.write(index)
    return index


def tar_fingerprint(files: ShardFiles, tar: Location) -> int:
    """64 bits over size, modification time and both ends of a tar; quick enough to compute whenever it is opened.

    The time is included because correcting a label in the middle of a tar changes neither its size nor its ends.
    """
    info = files.info(tar)
    head = files.read_at_most(tar, 0, _END_BYTES)
    tail = files.read_at_most(tar, max(0, info.size - _END_BYTES), _END_BYTES)
    numbers = np.array([info.size, info.modified_ns], dtype="<i8").tobytes()
    return xxhash.xxh3_64_intdigest(numbers + head + tail)


@dataclass(frozen=True)
class _IndexFile:
    """The file of a shard's index, for one state of the shard: the one with this fingerprint."""

    files: ShardFiles
    tar: Location
    index_dir: Path | None
    fingerprint: int

    def read(self) -> ShardIndex | None:
        """The index; None if there is no file, or it is damaged or for another state of the shard."""
        try:
            content = self._path.read_bytes() if self.index_dir else self.files.read_beside(self.tar, _SUFFIX)
            return None if content is None else _from_bytes(content, self.fingerprint)
        except Exception:  # a damaged archive makes zipfile and numpy raise nearly anything
            return None

    def write(self, index: ShardIndex) -> None:
        """Write an index; if the folder of the shard cannot be written, only warn.

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
                f"{self.tar}{_SUFFIX} cannot be written: every process indexes these shards for itself (see shards "
                "index --index-dir)",
            )

    @property
    def _path(self) -> Path:
        # Shards of different sets may have the same name, but not the same fingerprint.
        assert self.index_dir is not None
        return self.index_dir / f"{self.files.base_name(self.tar)}.{self.fingerprint:016x}{_SUFFIX}"


def _from_bytes(content: bytes, fingerprint: int) -> ShardIndex | None:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        version = int(arrays["version"])
        if version not in (1, FORMAT_VERSION) or int(arrays["fingerprint"]) != fingerprint:
            return None
        texts = NO_TEXTS
        if version == FORMAT_VERSION:
            texts = TextLabels(**{name: arrays[_LABEL_TEXTS + name] for name in TextLabels._fields})
        index = ShardIndex(**{name: arrays[name] for name in _COLUMNS}, texts=texts)
    if version == 1 and (index.labels < 0).any():
        return None  # its labels were read by narrower rules
    same_length = len({len(index.offsets), len(index.sizes), len(index.labels), len(index.key_ends)}) == 1
    return index if same_length and len(texts.codes) in (0, len(index)) else None


def _to_bytes(index: ShardIndex, fingerprint: int) -> bytes:
    content = io.BytesIO()
    arrays = {name: getattr(index, name) for name in _COLUMNS}
    arrays |= {_LABEL_TEXTS + name: array for name, array in index.texts._asdict().items()}
    np.savez(content, version=np.int64(FORMAT_VERSION), fingerprint=np.uint64(fingerprint), **arrays)
    return content.getvalue()
