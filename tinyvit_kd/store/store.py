"""The store: one zarr array a shard, one chunk and so one file a block, and a manifest.

A block is there or it is not: its file appears by an atomic rename, and there is no second ledger.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tinyvit_kd.errors import BlockCorruptError, BlockMissingError, ManifestMismatchError, StoreError
from tinyvit_kd.runtime.files import fsync_folder
from tinyvit_kd.runtime.watchdog import doing
from tinyvit_kd.store.arrays import (
    any_block,
    array_name,
    array_shape,
    chunk_name,
    complete_arrays,
    open_array,
    zarr_settings,
)
from tinyvit_kd.store.codec import Planes, decode, encode, read_header
from tinyvit_kd.store.manifest import MANIFEST, Manifest
from tinyvit_kd.store.records import Block, BlockHeader

REDUMP = "remove this file and run dump-logits again: it makes only the missing blocks"
_OPEN_ARRAYS = 256
_FOREIGN = {  # by the fields of the header that differ
    ("key_hash", "manifest_hash"): "a block was made from other samples",
    ("manifest_hash",): "a block belongs to another store, of another teacher or recipe",
}


class LogitStore:
    """Sparse teacher probabilities of a shard set's views.

    Opened by every process for itself; different processes may write different blocks at the same time.
    """

    def __init__(self, path: Path, manifest: Manifest, writable: bool, fsync: bool) -> None:
        self.path, self.manifest, self.writable, self.fsync = path, manifest, writable, fsync
        self._array = lru_cache(_OPEN_ARRAYS)(self._open_array)
        self._manifest_hash = int(manifest.hash, 16)

    @classmethod
    def create(cls, path: Path, manifest: Manifest, fsync: bool = False) -> LogitStore:
        """Make a store, or open the one that is there if it was made from the same.

        More views than it has may be asked for. Jobs that share the work may all call this.

        Raises:
            ManifestMismatchError: the folder holds a store that was made from something else.
            StoreError: its manifest is missing or damaged, or the folder cannot be written.
        """
        begun = any_block(path)  # looked for first: another job may make the store just now
        if (path / MANIFEST).exists():
            existing = Manifest.load(path)
            _require_same(existing, manifest, path, begun)
            manifest = existing.model_copy(update={"views": max(existing.views, manifest.views)})
        else:
            existing = None
            _refuse_orphan(begun, path)
        complete_arrays(path, manifest)
        if fsync:
            fsync_folder(path)  # the arrays' folders
        if manifest != existing:
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
        return self.path / array_name(shard) / chunk_name(view)

    def has_block(self, shard: int, view: int) -> bool:
        """Whether the block is there."""
        return self.block_path(shard, view).is_file()

    def missing_blocks(self, views: Iterable[int] | None = None) -> list[tuple[int, int]]:
        """(shard, view) of every block that is not there, shard by shard."""
        wanted = list(range(self.manifest.views)) if views is None else list(views)
        missing = []
        for shard, length in enumerate(self.manifest.shard_lengths):
            folder = self.path / array_name(shard)
            present = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
            missing += [(shard, view) for view in wanted if length and chunk_name(view) not in present]
        return missing

    def present_blocks(self, missing: Collection[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """(shard, view) of every block but those that ``missing_blocks`` named, shard by shard."""
        gaps = set(missing)
        for shard, length in enumerate(self.manifest.shard_lengths):
            if length:
                yield from ((shard, view) for view in range(self.manifest.views) if (shard, view) not in gaps)

    def complete_views(self) -> int:
        """How many view numbers, from 0, have the blocks of all shards."""
        return min((view for _, view in self.missing_blocks()), default=self.manifest.views)

    def unfinished(self, shards: Iterable[int]) -> list[Path]:
        """Temporary files of these shards: of writers at work, or left behind by killed ones."""
        return sorted(path for shard in shards for path in (self.path / array_name(shard)).glob("*.partial"))

    def write_block(self, shard: int, view: int, block: Block) -> None:
        """Write one block; once this returns it is there, whole.

        Raises:
            StoreError: a probability is NaN or infinite, or the disk refuses the block.
        """
        assert self.writable, "the store was opened for reading"
        path = self.block_path(shard, view)
        _require_finite(block, path)
        array, planes = self._array(shard), encode(block, self._header(shard, view))
        try:
            with zarr_settings():
                array[view] = planes
        except OSError as error:
            raise StoreError(
                "a block cannot be written",
                where=str(path),
                found=repr(error),
                fix="see to the disk's space and permissions, then run dump-logits again: it makes the missing blocks",
            ) from error

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
            BlockCorruptError: its checksum is wrong, it is cut short, it is another block, or it was made
                from other samples or for another store.
            StoreError: the disk or the array refuses to be read.
        """
        path = self.block_path(shard, view)
        doing(f"reading {path}")
        if not path.is_file():
            raise BlockMissingError(
                "a block is missing",
                where=str(path),
                found=f"no view {view} of shard {self.manifest.shard_names[shard]}",
                fix="run dump-logits: it makes only the missing blocks",
            )
        planes = _read_chunk(self._array(shard), view, path)
        _check_header(read_header(planes), self._header(shard, view), path)
        return planes

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
            manifest_hash=self._manifest_hash,
        )

    def _open_array(self, shard: int) -> Any:
        return open_array(self.path, shard, array_shape(self.manifest, shard), self.writable, self.fsync)

    def __reduce__(self) -> tuple[Any, ...]:
        # Loader workers open their own arrays.
        return LogitStore, (self.path, self.manifest, self.writable, self.fsync)


def _read_chunk(array: Any, view: int, path: Path) -> Planes:
    try:
        with zarr_settings():
            return np.asarray(array[view])
    except (OSError, MemoryError) as error:  # says nothing of the block: it must not be thrown away for it
        raise StoreError(
            "a block cannot be read",
            where=str(path),
            found=repr(error),
            fix="see to the disk, its permissions and the free memory; the block itself may be whole",
        ) from error
    except Exception as error:  # zarr, zstd and crc32c each raise bare errors of their own
        raise BlockCorruptError(
            "a block is damaged: its checksum is wrong, it is cut short, or it is of another size",
            where=str(path),
            found=f"{path.stat().st_size} bytes; {error}",
            fix=REDUMP,
        ) from error


def _check_header(found: BlockHeader | None, expected: BlockHeader, path: Path) -> None:
    if found == expected:
        return
    if found is None:
        raise BlockCorruptError("a block does not begin with a header", where=str(path), fix=REDUMP)
    names = [name for name in vars(expected) if getattr(found, name) != getattr(expected, name)]
    raise BlockCorruptError(
        _FOREIGN.get(tuple(names), "a block is not the one it should be"),
        where=str(path),
        found=", ".join(f"{name} {getattr(found, name)}" for name in names),
        expected=", ".join(f"{name} {getattr(expected, name)}" for name in names),
        fix=REDUMP,
    )


def _refuse_orphan(block: Path | None, path: Path) -> None:
    if block is not None:
        raise StoreError(
            "the folder has blocks but no manifest",
            where=str(path),
            found=block.relative_to(path).as_posix(),
            fix="restore manifest.json, or choose another folder",
        )


def _require_same(existing: Manifest, manifest: Manifest, path: Path, block: Path | None) -> None:
    try:
        existing.require_same(manifest.identity, str(path))
    except ManifestMismatchError as error:
        if block is None:  # the recipe was corrected after a dump that stopped before its first block
            error.fix = "remove the folder and run again: it has no block yet, unless another dump is at work there"
        raise


def _require_finite(block: Block, path: Path) -> None:
    bad = ~np.isfinite(block.probs).all(axis=1) | ~np.isfinite(block.residual)
    if bad.any():
        raise StoreError(
            "the teacher gave probabilities that are not finite",
            where=str(path),
            found=f"{bad.sum()} of {len(block)} records, the first at index {bad.argmax()}",
            fix="check the teacher's weights, or run it in a wider precision; the block was not written",
        )
