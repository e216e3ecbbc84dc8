"""Indexes on disk: made once, kept beside their shards, and made again when a shard has changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tinyvit_kd.data.indexing.index import ShardIndex, scan_tar
from tinyvit_kd.data.indexing.index_bytes import KeptIndex, from_bytes, to_bytes
from tinyvit_kd.data.indexing.tar_state import TarState
from tinyvit_kd.data.locating.patterns import INDEX_SUFFIX
from tinyvit_kd.data.read_ahead import reading_ahead
from tinyvit_kd.data.shard_files import Location, ShardFiles
from tinyvit_kd.errors import ShardError, reason_of
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.log import warn_once

_SPARE_BYTES = 1 << 16  # of an index, beyond the size of its tar: a sample takes less of it than its header in the tar
_SCANS = threading.BoundedSemaphore(8)  # tars that are gone through at a time; each has up to 24 MiB in memory


@dataclass(frozen=True)
class IndexPlaces:
    """Where indexes are kept.

    Attributes:
        index_dir: None: beside the shard.
        spare_dir: for indexes of shards at URLs, where ``index_dir`` is None and nothing can be written beside them.
    """

    index_dir: Path | None = None
    spare_dir: Path | None = None


def load_index(
    tar: Location,
    places: IndexPlaces | Path | None = None,
    files: ShardFiles | None = None,
    label_key: str | None = None,
) -> ShardIndex:
    """Read the index of a shard from its file; if there is none for this state of the shard, make it and keep it.

    Args:
        tar: path or URL of the shard.
        places: where indexes are kept, or ``index_dir`` alone; where none can be written, it stays in memory.
        files: reads the shard; by default a new ``ShardFiles``.
        label_key: the field of ``.json`` that is the label; None: the usual ones.

    Raises:
        ShardError: the tar is missing, compressed, truncated or damaged, or ``index_dir`` cannot be written.
    """
    files = files or ShardFiles()
    index_file = _IndexFile(files, tar, _places(places), TarState(files, tar, label_key))
    index = index_file.read()
    if index is not None and index.leftovers is None:
        if index_file.can_write() or (index.labels < 0).any():  # its labels were read by narrower rules
            index = None
        else:
            _warn_of_old_index(tar)
    if index is None:
        index = _scanned(files, tar, label_key)
        index_file.write(index)
    return index


def find_index(
    tar: Location,
    places: IndexPlaces | Path | None = None,
    files: ShardFiles | None = None,
    label_key: str | None = None,
) -> ShardIndex | None:
    """As ``load_index``, but nothing is made or written: None if no file has the index of this state of the shard.

    Raises:
        ShardError: the tar is missing or cannot be read.
    """
    files = files or ShardFiles()
    return _IndexFile(files, tar, _places(places), TarState(files, tar, label_key)).read()


def write_index_beside(tar: Location, index: ShardIndex, files: ShardFiles) -> None:
    """Write the index of a tar that has just been written, beside it; if that is refused, only warn."""
    _IndexFile(files, tar, IndexPlaces(), TarState(files, tar)).write(index)


def _places(places: IndexPlaces | Path | None) -> IndexPlaces:
    return places if isinstance(places, IndexPlaces) else IndexPlaces(places)


def _scanned(files: ShardFiles, tar: Location, label_key: str | None) -> ShardIndex:
    if files.is_local(tar):
        return scan_tar(tar, files, label_key)
    with _SCANS, reading_ahead(files, tar) as ahead:
        return scan_tar(tar, ahead, label_key)


def _warn_of_old_index(tar: Location) -> None:
    warn_once(
        ("old index", str(tar).rpartition("/")[0]),
        f"the index of {tar} is of an earlier version and cannot be replaced: it does not say whether samples were "
        "left out (shards index --index-dir FOLDER makes indexes elsewhere)",
    )


@dataclass(frozen=True)
class _IndexFile:
    """The file of a shard's index, for one state of the shard."""

    files: ShardFiles
    tar: Location
    places: IndexPlaces
    state: TarState

    def read(self) -> ShardIndex | None:
        """The index; None if there is no file, or it is damaged or for another state of the shard."""
        for content in self._contents():
            try:
                kept = from_bytes(content, self.state.info.size)
                if kept is not None and self._is_of_this_state(kept):
                    return kept.shard_index
            except ShardError:
                raise
            except Exception:
                continue
        return None

    def can_write(self) -> bool:
        """Whether an index can be kept, as far as this is known without trying."""
        if self.places.index_dir is None:
            return self.files.can_write_beside(self.tar) or self._spare is not None
        return os.access(self.places.index_dir, os.W_OK | os.X_OK)

    def write(self, index: ShardIndex) -> None:
        """Write an index; if there is no place that can be written, only warn.

        Raises:
            ShardError: ``index_dir`` cannot be written.
        """
        content = to_bytes(index, self.state)
        if self.places.index_dir is not None:
            _write_into(self._path_in(self.places.index_dir), content)
            return
        try:
            if self._spare is None or self.files.can_write_beside(self.tar):
                self.files.write_beside(self.tar, INDEX_SUFFIX, content)
                return
        except OSError:
            pass
        if self._spare is not None:
            _write_into(self._spare, content)
            return
        folder = str(self.tar).rpartition("/")[0]
        warn_once(
            folder,
            f"{self.tar}{INDEX_SUFFIX} cannot be written: every process indexes these shards for itself (see "
            "shards index --index-dir)",
        )

    def _contents(self) -> Iterator[bytes]:
        """The content of each file that may be the index."""
        limit = self.state.info.size + _SPARE_BYTES
        index_dir = self.places.index_dir
        here = self._spare if index_dir is None else self._path_in(index_dir)
        if here is not None and (content := _read_at_most(here, limit)) is not None:
            yield content
        if index_dir is None and (content := self.files.read_beside(self.tar, INDEX_SUFFIX, limit)) is not None:
            yield content

    def _is_of_this_state(self, kept: KeptIndex) -> bool:
        """Whether an index is of the tar as it is now.

        A set that was copied to a URL, indexes included, has other times there: its indexes count where size and ends
        are the tar's, and the tar is not the newer of the two.
        """
        if kept.fingerprint == self.state.fingerprint:
            return True
        if self.state.is_local or kept.content is None:
            return False
        beside = self.files.info_beside(self.tar, INDEX_SUFFIX)
        is_older = beside is None or beside.modified_ns < self.state.info.modified_ns
        return not is_older and kept.content == self.state.content

    @property
    def _spare(self) -> Path | None:
        spare_dir = self.places.spare_dir
        return None if spare_dir is None or self.state.is_local else self._path_in(spare_dir)

    def _path_in(self, folder: Path) -> Path:
        # Shards of different sets may have the same name, but not the same fingerprint.
        return folder / f"{self.files.base_name(self.tar)}.{self.state.fingerprint:016x}{INDEX_SUFFIX}"


def _read_at_most(path: Path, limit: int) -> bytes | None:
    try:
        return path.read_bytes() if path.stat().st_size <= limit else None
    except OSError:
        return None


def _write_into(path: Path, content: bytes) -> None:
    try:
        atomic_write(path, content)
    except OSError as error:
        raise ShardError(
            "cannot write an index into the folder for indexes",
            where=str(path),
            found=reason_of(error),
            fix="choose a folder that can be written (index_dir, or cache_dir for shards at URLs)",
        ) from None
