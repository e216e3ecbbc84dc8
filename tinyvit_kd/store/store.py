"""The store: one zarr array a shard, one chunk and so one file a block, and a manifest.

A block is there or it is not: its file appears by an atomic rename, and there is no second ledger.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.storage import LocalStore

from tinyvit_kd.errors import BlockCorruptError, BlockMissingError, StoreError
from tinyvit_kd.runtime.files import fsync_file, fsync_folder
from tinyvit_kd.store.codec import Planes, decode, encode, plane_rows, read_header
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.records import Block, BlockHeader

REDUMP = "remove this file and run dump-logits again: it makes only the missing blocks"
_OPEN_ARRAYS = 256


class LogitStore:
    """Sparse teacher probabilities of a shard set's views.

    Opened by every process for itself; different processes may write different blocks at the same time.
    """

    def __init__(self, path: Path, manifest: Manifest, writable: bool, fsync: bool) -> None:
        self.path, self.manifest, self.writable, self.fsync = path, manifest, writable, fsync
        self._array = lru_cache(_OPEN_ARRAYS)(self._open_array)

    @classmethod
    def create(cls, path: Path, manifest: Manifest, fsync: bool = False) -> LogitStore:
        """Make a store, or open the one that is there if it was made from the same; more views may be asked for.

        To be called by one process alone.

        Raises:
            ManifestMismatchError: the folder holds a store that was made from something else.
        """
        if (path / "manifest.json").exists():
            existing = Manifest.load(path)
            fields = set(Manifest.model_fields) - {"views", "versions", "shard_set"}
            existing.require_same({name: getattr(manifest, name) for name in sorted(fields)}, str(path))
            manifest = existing.model_copy(update={"views": max(existing.views, manifest.views)})
            if manifest.views == existing.views:
                return cls(path, manifest, writable=True, fsync=fsync)
        with _zarr_settings():
            group = zarr.open_group(LocalStore(path), mode="a")
            for shard in range(len(manifest.shard_names)):
                _create_array(group, manifest, shard)
        manifest.save(path)  # last: a store without a manifest is not one yet
        return cls(path, manifest, writable=True, fsync=fsync)

    @classmethod
    def open(cls, path: Path, writable: bool = False, fsync: bool = False) -> LogitStore:
        """Open a store that exists; reading works on a read-only disk.

        Raises:
            StoreError, FormatVersionError: there is none, it is damaged, or of another format.
        """
        return cls(path, Manifest.load(path), writable, fsync)

    def block_path(self, shard: int, view: int) -> Path:
        """The file that is this block."""
        return self.path / _array_name(shard) / f"c.{view}.0.0"

    def has_block(self, shard: int, view: int) -> bool:
        """Whether the block is there."""
        return self.block_path(shard, view).is_file()

    def missing_blocks(self, views: Iterable[int] | None = None) -> list[tuple[int, int]]:
        """(shard, view) of every block that is not there, shard by shard."""
        wanted = list(range(self.manifest.views)) if views is None else list(views)
        missing = []
        for shard, length in enumerate(self.manifest.shard_lengths):
            folder = self.path / _array_name(shard)
            present = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
            missing += [(shard, view) for view in wanted if length and f"c.{view}.0.0" not in present]
        return missing

    def write_block(self, shard: int, view: int, block: Block) -> None:
        """Write one block; once this returns it is there, whole."""
        assert self.writable, "the store was opened for reading"
        header = self._header(shard, view)
        assert len(block) == header.length
        with _zarr_settings():
            self._array(shard)[view] = encode(block, header)
        if self.fsync:
            path = self.block_path(shard, view)
            fsync_file(path)
            fsync_folder(path.parent)

    def read_block(self, shard: int, view: int) -> Block:
        """All records of one block.

        Raises:
            BlockMissingError, BlockCorruptError: see ``read_planes``.
        """
        return decode(self.read_planes(shard, view), self._header(shard, view))

    def read_planes(self, shard: int, view: int) -> Planes:
        """One block as it is encoded: uint8 [rows, n], checked.

        Raises:
            BlockMissingError: the block has not been dumped.
            BlockCorruptError: its checksum is wrong, it is cut short, it is another block, or it was made from
                other samples.
        """
        path = self.block_path(shard, view)
        if not path.is_file():
            raise BlockMissingError(
                "a block is missing",
                where=str(path),
                found=f"no view {view} of shard {self.manifest.shard_names[shard]}",
                fix="run dump-logits: it makes only the missing blocks",
            )
        try:
            with _zarr_settings():
                planes = np.asarray(self._array(shard)[view])
        except Exception as error:  # zarr, zstd and crc32c each raise bare errors of their own
            raise BlockCorruptError(
                "a block is damaged: its checksum is wrong or it is cut short",
                where=str(path),
                found=f"{path.stat().st_size} bytes; {error}",
                fix=REDUMP,
            ) from error
        self._check_header(planes, shard, view, path)
        return planes

    def _check_header(self, planes: Planes, shard: int, view: int, path: Path) -> None:
        found, expected = read_header(planes), self._header(shard, view)
        if found == expected:
            return
        if found is None:
            raise BlockCorruptError("a block does not begin with a header", where=str(path), fix=REDUMP)
        names = [name for name in vars(expected) if getattr(found, name) != getattr(expected, name)]
        what = "a block was made from other samples" if names == ["key_hash"] else "a block is not the one it should be"
        raise BlockCorruptError(
            what,
            where=str(path),
            found=", ".join(f"{name} {getattr(found, name)}" for name in names),
            expected=", ".join(f"{name} {getattr(expected, name)}" for name in names),
            fix=REDUMP,
        )

    def _header(self, shard: int, view: int) -> BlockHeader:
        manifest = self.manifest
        return BlockHeader(
            encoding=manifest.encoding,
            shard=shard,
            view=view,
            length=manifest.shard_lengths[shard],
            topk=manifest.topk,
            num_classes=manifest.num_classes,
            key_hash=manifest.key_hashes[shard],
        )

    def _open_array(self, shard: int) -> Any:
        try:
            with _zarr_settings():
                store = LocalStore(self.path, read_only=not self.writable)
                return zarr.open_array(store, path=_array_name(shard), mode="r+" if self.writable else "r")
        except (FileNotFoundError, KeyError, ValueError) as error:
            raise StoreError(
                "the store lacks the array of a shard",
                where=str(self.path / _array_name(shard)),
                found=str(error),
                fix="restore its zarr.json, or run dump-logits, which makes it again",
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        # Loader workers open their own arrays.
        return LogitStore, (self.path, self.manifest, self.writable, self.fsync)


def _array_name(shard: int) -> str:
    return f"s{shard:06d}"


def _create_array(group: Any, manifest: Manifest, shard: int) -> None:
    length, name = manifest.shard_lengths[shard], _array_name(shard)
    if length == 0:
        return
    rows = plane_rows(manifest.encoding, length, manifest.topk, manifest.num_classes)
    if name in group:
        group[name].resize((manifest.views, rows, length))
        return
    group.create_array(
        name,
        shape=(manifest.views, rows, length),
        chunks=(1, rows, length),
        dtype="uint8",
        compressors=(ZstdCodec(level=1), Crc32cCodec()),
        fill_value=0,
        # Without folders a chunk lies beside its array's zarr.json.
        chunk_key_encoding={"name": "default", "separator": "."},
    )


def _zarr_settings() -> Any:
    """One thread is fastest for one chunk a call; an all-zero chunk must be written like any other."""
    return zarr.config.set({"threading.max_workers": 1, "array.write_empty_chunks": True})
