"""The store: one zarr array per shard, one chunk and so one file per block, and a manifest.

A block is there or it is not: its file appears whole, in one step, and there is no second ledger.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from os import PathLike
from typing import Any

import numpy as np

from tinyvit_kd.errors import (
    BlockCorruptError,
    BlockMissingError,
    ManifestMismatchError,
    StoreError,
    StoreUnreadableError,
)
from tinyvit_kd.runtime.watchdog import doing
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.arrays import any_block, array_shape, complete_arrays, open_array, zarr_settings
from tinyvit_kd.store.codec import decode, encode, read_header
from tinyvit_kd.store.encodings import Planes
from tinyvit_kd.store.integrity import REDUMP, check_header, require_finite
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import CLASS_LIST, MANIFEST, array_name, block_name, chunk_name
from tinyvit_kd.store.records import Block, BlockHeader

_OPEN_ARRAYS = 256


class LogitStore:
    """Sparse teacher probabilities of a shard set's views.

    Opened by every process for itself; different processes may write different blocks at the same time.

    Attributes:
        storage: its files; all else that is done to them goes through it.
        manifest: what it was made from.
    """

    def __init__(self, storage: Storage, manifest: Manifest, writable: bool, fsync: bool) -> None:
        self.storage = storage
        self.manifest = manifest
        self.writable = writable
        self.fsync = fsync
        self._array = lru_cache(_OPEN_ARRAYS)(self._open_array)
        self._manifest_hash = int(manifest.hash, 16)

    @classmethod
    def create(cls, path: str | PathLike[str], manifest: Manifest, fsync: bool = False) -> LogitStore:
        """Make a store, or open the one that is there if it was made from the same.

        More views than it has may be asked for. Jobs that share the work may all call this.

        Raises:
            ManifestMismatchError: the folder holds a store that was made from something else.
            StoreError: its manifest is missing or damaged, or the folder cannot be written.
        """
        storage = open_storage(path)
        begun = any_block(storage)  # looked for first: another job may make the store just now
        existing: Manifest | None = None
        if storage.info(MANIFEST) is not None:
            existing = Manifest.load(storage)
            _require_same(existing, manifest, storage, begun)
            manifest = existing.model_copy(update={"views": max(existing.views, manifest.views)})
        else:
            _refuse_orphan(begun, storage)
        complete_arrays(storage, manifest)
        if fsync:
            storage.sync_folder()  # the arrays' folders
        if manifest != existing:
            manifest.save(storage)  # last: a store without a manifest is not one yet
        return cls(storage, manifest, writable=True, fsync=fsync)

    @classmethod
    def open(cls, path: str | PathLike[str], writable: bool = False, fsync: bool = False) -> LogitStore:
        """Open a store that exists; reading works on a read-only disk.

        Raises:
            StoreError, FormatVersionError: there is none, it is damaged, or of another format.
        """
        storage = open_storage(path)
        return cls(storage, Manifest.load(storage), writable, fsync)

    @property
    def where(self) -> str:
        """Its path or URL."""
        return self.storage.locate()

    def block_location(self, shard: int, view: int) -> str:
        """The path or URL of the file that is this block."""
        return self.storage.locate(block_name(shard, view))

    def block_bytes(self, shard: int, view: int) -> int:
        """Size of a block's file, bytes; 0 where it is not there."""
        info = self.storage.info(block_name(shard, view))
        return 0 if info is None else info.size

    def has_block(self, shard: int, view: int) -> bool:
        """Whether the block is there."""
        return self.storage.info(block_name(shard, view)) is not None

    def missing_blocks(self, views: Iterable[int] | None = None) -> list[tuple[int, int]]:
        """(shard, view) of every block that is not there, shard by shard."""
        wanted = list(range(self.manifest.views)) if views is None else list(views)
        missing = []
        for shard, length in enumerate(self.manifest.shard_lengths):
            present = {entry.base for entry in self.storage.list(array_name(shard))}
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

    def unfinished(self, shards: Iterable[int]) -> list[str]:
        """Names of temporary files of these shards: of writers at work, or left behind by killed ones."""
        entries = (entry for shard in shards for entry in self.storage.list(array_name(shard)))
        return sorted(entry.name for entry in entries if entry.base.endswith(".partial"))

    def write_class_list(self, ids: Iterable[str]) -> None:
        """Keep the teacher's classes beside the manifest, one per line."""
        self.storage.write(CLASS_LIST, ("\n".join(ids) + "\n").encode())

    def read_class_list(self) -> str | None:
        """The text that ``write_class_list`` wrote; None where it is not there.

        Raises:
            OSError, UnicodeDecodeError: it cannot be read.
        """
        if self.storage.info(CLASS_LIST) is None:
            return None
        return self.storage.read(CLASS_LIST).decode()

    def write_block(self, shard: int, view: int, block: Block) -> None:
        """Write one block; once this returns it is there, whole.

        Raises:
            StoreError: a probability is NaN or infinite, or the disk refuses the block.
        """
        assert self.writable, "the store was opened for reading"
        location = self.block_location(shard, view)
        require_finite(block, location)
        array = self._array(shard)
        planes = encode(block, self._header(shard, view))
        try:
            with zarr_settings():
                array[view] = planes
        except OSError as error:
            raise StoreError(
                "a block cannot be written",
                where=location,
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
        location = self.block_location(shard, view)
        doing(f"reading {location}")
        if not self.has_block(shard, view):
            raise BlockMissingError(
                "a block is missing",
                where=location,
                found=f"no view {view} of shard {self.manifest.shard_names[shard]}",
                fix="run dump-logits: it makes only the missing blocks",
            )
        planes = self._read_chunk(shard, view, location)
        check_header(read_header(planes), self._header(shard, view), location)
        return planes

    def _read_chunk(self, shard: int, view: int, location: str) -> Planes:
        try:
            array = self._array(shard)
            with zarr_settings():
                return np.asarray(array[view])
        except StoreError:
            raise
        except (OSError, MemoryError) as error:  # says nothing of the block: it must not be thrown away for it
            raise StoreUnreadableError(
                "a block cannot be read",
                where=location,
                found=repr(error),
                fix="see to the disk, its permissions and the free memory; the block itself may be whole",
            ) from error
        except Exception as error:  # zarr, zstd and crc32c each raise bare errors of their own
            raise BlockCorruptError(
                "a block is damaged: its checksum is wrong, it is cut short, or it is of another size",
                where=location,
                found=f"{self.block_bytes(shard, view)} bytes; {error}",
                fix=REDUMP,
            ) from error

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
        return open_array(self.storage, shard, array_shape(self.manifest, shard), self.writable, self.fsync)

    def __reduce__(self) -> tuple[Any, ...]:
        # Loader workers open their own arrays.
        return LogitStore, (self.storage, self.manifest, self.writable, self.fsync)


def _refuse_orphan(block: str | None, storage: Storage) -> None:
    if block is not None:
        raise StoreError(
            "the folder has blocks but no manifest",
            where=storage.locate(),
            found=block,
            fix="restore manifest.json, or choose another folder",
        )


def _require_same(existing: Manifest, manifest: Manifest, storage: Storage, block: str | None) -> None:
    try:
        existing.require_same(manifest.identity, storage.locate())
    except ManifestMismatchError as error:
        if block is None:  # the recipe was corrected after a dump that stopped before its first block
            error.fix = "remove the folder and run again: it has no block yet, unless another dump is at work there"
        raise
