"""Indexes on disk: made once, kept beside their shards, and made again when a shard has changed."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xxhash

from tinyvit_kd.data.indexing.index import ShardIndex, scan_tar
from tinyvit_kd.data.indexing.npz import read_npz
from tinyvit_kd.data.labels.text_labels import NO_TEXTS, TextLabels
from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.errors import ShardError, reason_of
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.log import warn_once

FORMAT_VERSION = 2  # 1 has neither texts of labels nor what was left out
INDEX_SUFFIX = ".idx.npz"  # appended to the name of the shard
_SPARE_BYTES = 1 << 16  # of an index, beyond the size of its tar: a sample takes less of it than its header in the tar
_COLUMNS = {"offsets": "<i8", "sizes": "<i8", "labels": "<i8", "key_bytes": "|u1", "key_ends": "<i8"}
_TEXTS_PREFIX = "label_text_"  # before the names of the arrays of TextLabels
_SINCE_2 = {
    **{
        f"{_TEXTS_PREFIX}{name}": dtype
        for name, dtype in zip(TextLabels._fields, ("<i8", "|u1", "<i8", "|u1"), strict=True)
    },
    "leftovers": "|u1",
}
_HEADER = {"version": "<i8", "fingerprint": "<u8"}
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
    index_file = _IndexFile(files, tar, index_dir, _fingerprint(files, tar, label_key))
    index = index_file.read()
    if index is not None and index.leftovers is None:
        if index_file.can_write() or (index.labels < 0).any():  # its labels were read by narrower rules
            index = None
        else:
            _warn_of_old_index(tar)
    if index is None:
        index = scan_tar(tar, files, label_key)
        index_file.write(index)
    return index


def find_index(
    tar: Location, index_dir: Path | None = None, files: ShardFiles | None = None, label_key: str | None = None
) -> ShardIndex | None:
    """As ``load_index``, but nothing is made or written: None if no file has the index of this state of the shard.

    Raises:
        ShardError: the tar is missing or cannot be read.
    """
    files = files or ShardFiles()
    return _IndexFile(files, tar, index_dir, _fingerprint(files, tar, label_key)).read()


def _fingerprint(files: ShardFiles, tar: Location, label_key: str | None) -> int:
    fingerprint = tar_fingerprint(files, tar)
    if label_key is None:
        return fingerprint
    return xxhash.xxh3_64_intdigest(label_key.encode(), seed=fingerprint)  # with other labels it is another index


def _warn_of_old_index(tar: Location) -> None:
    warn_once(
        ("old index", str(tar).rpartition("/")[0]),
        f"the index of {tar} is of an earlier version and cannot be replaced: it does not say whether samples were "
        "left out (shards index --index-dir FOLDER makes indexes elsewhere)",
    )


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
        tar_size = self.files.info(self.tar).size
        limit = tar_size + _SPARE_BYTES
        try:
            if self.index_dir is None:
                content = self.files.read_beside(self.tar, INDEX_SUFFIX, limit)
            else:
                content = self._path.read_bytes() if self._path.stat().st_size <= limit else None
            return None if content is None else _from_bytes(content, self.fingerprint, tar_size)
        except Exception:  # a damaged archive makes zipfile and numpy raise nearly anything
            return None

    def can_write(self) -> bool:
        """Whether an index can be kept, as far as this is known without trying."""
        if self.index_dir is None:
            return self.files.can_write_beside(self.tar)
        return os.access(self.index_dir, os.W_OK | os.X_OK)

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
            self.files.write_beside(self.tar, INDEX_SUFFIX, content)
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
                f"{self.tar}{INDEX_SUFFIX} cannot be written: every process indexes these shards for itself (see "
                "shards index --index-dir)",
            )

    @property
    def _path(self) -> Path:
        # Shards of different sets may have the same name, but not the same fingerprint.
        assert self.index_dir is not None
        return self.index_dir / f"{self.files.base_name(self.tar)}.{self.fingerprint:016x}{INDEX_SUFFIX}"


def _from_bytes(content: bytes, fingerprint: int, tar_size: int) -> ShardIndex | None:
    found = read_npz(content, {**_HEADER, **_COLUMNS, **_SINCE_2}, optional=_SINCE_2)
    version = int(found["version"])
    if version not in (1, FORMAT_VERSION) or int(found["fingerprint"]) != fingerprint:
        return None
    texts, leftovers = NO_TEXTS, None
    if version == FORMAT_VERSION:
        texts = TextLabels(**{name: found[_TEXTS_PREFIX + name] for name in TextLabels._fields})
        leftovers = Leftovers.from_json(found["leftovers"].tobytes())
    index = ShardIndex(**{name: found[name] for name in _COLUMNS}, texts=texts, leftovers=leftovers)
    return index if _lies_within(index, tar_size) and _names_its_texts(index) else None


def _lies_within(index: ShardIndex, tar_size: int) -> bool:
    """Whether the arrays of an index are equally long, and its images lie in the tar."""
    offsets, sizes, ends = index.offsets, index.sizes, index.key_ends
    if not len(offsets) == len(sizes) == len(index.labels) == len(ends):
        return False
    within = (offsets >= 0) & (offsets <= tar_size) & (sizes >= 0) & (sizes <= tar_size - offsets)
    return bool(within.all()) and _are_ends(ends, len(index.key_bytes))


def _names_its_texts(index: ShardIndex) -> bool:
    """Whether the labels that are texts are among the texts of an index."""
    codes, ends = index.texts.codes, index.texts.ends
    if len(codes) not in (0, len(index)) or not _are_ends(ends, len(index.texts.table)):
        return False
    return bool(((codes >= -1) & (codes < len(ends))).all())


def _are_ends(ends: npt.NDArray[np.int64], length: int) -> bool:
    """Whether these are the ends of pieces that make up ``length`` bytes."""
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends])
    return bool((np.diff(starts) >= 0).all()) and int(starts[-1]) == length


def _to_bytes(index: ShardIndex, fingerprint: int) -> bytes:
    assert index.leftovers is not None
    content = io.BytesIO()
    arrays = {name: getattr(index, name) for name in _COLUMNS}
    arrays |= {_TEXTS_PREFIX + name: array for name, array in index.texts._asdict().items()}
    leftovers = np.frombuffer(index.leftovers.to_json(), dtype=np.uint8)
    header = {"version": np.int64(FORMAT_VERSION), "fingerprint": np.uint64(fingerprint)}
    np.savez(content, **header, **arrays, leftovers=leftovers)  # type: ignore[arg-type]
    return content.getvalue()
