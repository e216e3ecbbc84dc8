"""The store: one zarr array per shard, one chunk and so one file per block, and a manifest.

A block exists if and only if its file does. The file appears complete and in one step; no other list of blocks is kept.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import lru_cache
from os import PathLike
from typing import Any

import numpy as np

from tinyvit_kd.errors import (
    BlockCorruptError,
    BlockMissingError,
    StoreError,
    StoreUnreadableError,
    said_by,
    what_to_do,
)
from tinyvit_kd.runtime.watchdog import doing
from tinyvit_kd.storage.base import Entry, Storage, read_limited
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.arrays import array_shape, check_array
from tinyvit_kd.store.chunks import largest_file, pack, unpack
from tinyvit_kd.store.codec import decode, encode, read_header
from tinyvit_kd.store.create import prepare_store
from tinyvit_kd.store.encodings import Planes
from tinyvit_kd.store.folders import array_entries
from tinyvit_kd.store.integrity import REDUMP, check_header, require_finite
from tinyvit_kd.store.listing import Bool, missing_table, present_blocks
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.names import CLASS_LIST, array_name, block_name
from tinyvit_kd.store.records import Block, BlockHeader

RECENT = 60.0  # seconds; a running dump may still be writing an unfinished file that has changed since
_KEPT_SHAPES = 1 << 16  # of arrays whose description has been checked
_LARGEST_LIST = 1 << 26  # bytes of a class list that is read


class LogitStore:
    """Sparse teacher probabilities of a shard set's views.

    Every process opens the store for itself. Different processes may write different blocks at the same time.

    Attributes:
        storage: the store's files, for everything that this class does not do.
        manifest: what the store was made from.
        writable: whether blocks can be written.
        fsync: whether each block is flushed to the disk as it is written.
    """

    def __init__(self, storage: Storage, manifest: Manifest, writable: bool, fsync: bool) -> None:
        self.storage = storage
        self.manifest = manifest
        self.writable = writable
        self.fsync = fsync
        self._shape = lru_cache(_KEPT_SHAPES)(self._checked_shape)
        self._manifest_hash = int(manifest.hash, 16)

    @classmethod
    def create(cls, path: str | PathLike[str], manifest: Manifest, fsync: bool = False) -> LogitStore:
        """Make a store or, if the folder holds one that was made from the same, open it for writing.

        The manifest may have more views than the existing store, which then grows. Several jobs that share the work
        may call this at the same time.

        Raises:
            ManifestMismatchError: the folder holds a store that was made from something else.
            StoreError: the store's manifest is missing or damaged, or the folder cannot be written.
        """
        storage = open_storage(path)
        return cls(storage, prepare_store(storage, manifest, fsync), writable=True, fsync=fsync)

    @classmethod
    def open(cls, path: str | PathLike[str], writable: bool = False, fsync: bool = False) -> LogitStore:
        """Open a store that exists. A read-only disk is enough for reading.

        Raises:
            StoreError: there is no store, or its manifest is damaged.
            FormatVersionError: the store has another format.
        """
        storage = open_storage(path)
        return cls(storage, Manifest.load(storage), writable, fsync)

    @property
    def where(self) -> str:
        """Path or URL of the store."""
        return self.storage.locate()

    def block_location(self, shard: int, view: int) -> str:
        """Path or URL of a block's file."""
        return self.storage.locate(block_name(shard, view))

    def block_bytes(self, shard: int, view: int) -> int:
        """Size of a block's file, bytes; 0 if the block is missing."""
        info = self.storage.info(block_name(shard, view))
        return 0 if info is None else info.size

    def has_block(self, shard: int, view: int) -> bool:
        """Whether a block is present."""
        return self.storage.info(block_name(shard, view)) is not None

    def missing_blocks(self, views: Iterable[int] | None = None) -> list[tuple[int, int]]:
        """(shard, view) of every missing block, shard by shard.

        Args:
            views: the view numbers to look for; None: all of the store's.
        """
        numbers = list(range(self.manifest.views) if views is None else views)
        return [(shard, numbers[column]) for shard, column in np.argwhere(self.missing_table(numbers)).tolist()]

    def missing_table(self, views: Sequence[int] | None = None, shards: range | None = None) -> Bool:
        """Whether each block is missing: bool [shards, views]; see ``listing.missing_table``. None: all."""
        numbers = range(self.manifest.views) if views is None else views
        return missing_table(self.storage, self.manifest.shard_lengths, numbers, shards)

    def present_blocks(self, missing: Collection[tuple[int, int]] | Bool) -> Iterator[tuple[int, int]]:
        """(shard, view) of every present block, given what ``missing_blocks`` or ``missing_table`` said."""
        yield from present_blocks(missing, self.manifest.shard_lengths, self.manifest.views)

    def array_entries(self) -> Iterator[tuple[int, list[Entry]]]:
        """Each shard that has samples, with what lies in its array's folder."""
        shards = [shard for shard, length in enumerate(self.manifest.shard_lengths) if length]
        return array_entries(self.storage, shards, self.manifest.views * len(shards))

    def complete_views(self) -> int:
        """How many view numbers, counted from 0, have the blocks of all shards."""
        incomplete = np.flatnonzero(self.missing_table().any(axis=0))
        return int(incomplete[0]) if len(incomplete) else self.manifest.views

    def unfinished(self, shards: Iterable[int]) -> list[str]:
        """Names of some shards' temporary files, which running writers use and killed writers leave behind.

        Only disks have them: in an object store nothing can be seen before it is whole.
        """
        if self.storage.at_a_time > 1:
            return []
        entries = (entry for shard in shards for entry in self.storage.list(array_name(shard)))
        return sorted(entry.name for entry in entries if entry.base.endswith(".partial"))

    def remove_leftovers(self, names: Iterable[str]) -> None:
        """Remove temporary files that killed writers left behind; a file that changed a moment ago is kept.

        Args:
            names: what ``unfinished`` returned. On a read-only disk nothing is removed.
        """
        if self.storage.is_writable():
            for name in names:
                info = self.storage.info(name)
                if info is not None and time.time() - info.modified_ns / 1e9 > RECENT:
                    self.storage.remove(name)

    def write_class_list(self, ids: Iterable[str]) -> None:
        """Write the teacher's classes to a file beside the manifest, one per line, if they are not there already."""
        content = ("\n".join(ids) + "\n").encode()
        info = self.storage.info(CLASS_LIST)
        if info is None or info.size != len(content) or self.read_class_list() != content.decode():
            self.storage.write(CLASS_LIST, content)

    def read_class_list(self) -> str | None:
        """The text that ``write_class_list`` wrote; None if there is no such file.

        Raises:
            OSError, UnicodeDecodeError: the file cannot be read.
        """
        info = self.storage.info(CLASS_LIST)
        if info is None:
            return None
        if info.size > _LARGEST_LIST:
            raise OSError(errno.EFBIG, f"{info.size:,} bytes, and the largest that is read has {_LARGEST_LIST:,}")
        return self.storage.read(CLASS_LIST).decode()

    def write_block(self, shard: int, view: int, block: Block) -> None:
        """Write one block. When this returns, the block is present and complete.

        Raises:
            StoreError: a probability is NaN or infinite, or the block cannot be written.
        """
        assert self.writable, "the store was opened for reading"
        location = self.block_location(shard, view)
        require_finite(block, location)
        self._shape(shard)
        content = pack(encode(block, self.header(shard, view)))
        try:
            self.storage.write(block_name(shard, view), content, self.fsync)
        except OSError as error:
            raise StoreError(
                "a block cannot be written",
                where=location,
                found=said_by(error),
                fix=what_to_do(
                    error, "check the disk's space and permissions, then run dump-logits again: it makes missing blocks"
                ),
            ) from error

    def read_block(self, shard: int, view: int) -> Block:
        """Read all records of one block.

        Raises:
            BlockMissingError, BlockCorruptError: see ``read_planes``.
        """
        return decode(self.read_planes(shard, view), self.header(shard, view))

    def read_planes(self, shard: int, view: int) -> Planes:
        """Read one encoded block, uint8 [rows, n], and check it.

        Raises:
            BlockMissingError: the block has not been dumped.
            BlockCorruptError: its checksum is wrong, it is cut short, it is another block, or it was made from other
                samples or for another store.
            StoreError: the system refuses to read it, or the description of its array is missing or damaged.
        """
        return self.unpack(shard, view, self.read_file(shard, view))

    def read_file(self, shard: int, view: int) -> bytes:
        """The content of a block's file, as it is.

        Raises:
            BlockMissingError: the block has not been dumped.
            BlockCorruptError: the file is larger than any block of this shard; it is not read.
            StoreError: the system refuses to read it, or the description of its array is missing or damaged.
        """
        location = self.block_location(shard, view)
        doing(f"reading {location}")
        try:
            content = read_limited(self.storage, block_name(shard, view), largest := largest_file(self._shape(shard)))
            if isinstance(content, bytes):
                return content
            raise _corrupt(location, f"{content:,} bytes, and a block here has {largest:,} at most")
        except FileNotFoundError:
            pass
        except (OSError, MemoryError) as error:
            raise _unreadable(location, error) from error
        raise BlockMissingError(
            "a block is missing",
            where=location,
            found=f"no view {view} of shard {self.manifest.shard_names[shard]}",
            fix="run dump-logits: it makes only the missing blocks",
        )

    def unpack(self, shard: int, view: int, content: bytes) -> Planes:
        """The planes in the content of a block's file, checked: see ``read_planes``."""
        location = self.block_location(shard, view)
        try:
            planes = unpack(content, self._shape(shard))
        except MemoryError as error:  # the block itself may be undamaged, and must not be deleted
            raise _unreadable(location, error) from error
        except ValueError as error:
            raise _corrupt(location, f"{len(content):,} bytes; {error}") from error
        check_header(read_header(planes), self.header(shard, view), location)
        return planes

    def header(self, shard: int, view: int) -> BlockHeader:
        """The header that belongs in a block's place."""
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

    def _checked_shape(self, shard: int) -> tuple[int, int]:
        """Shape of a shard's planes, (rows, n), once its array's description has been compared with it."""
        shape = array_shape(self.manifest, shard)
        check_array(self.storage, shard, shape)
        return shape[1:]

    def __reduce__(self) -> tuple[Any, ...]:
        # Loader workers open their own arrays.
        return LogitStore, (self.storage, self.manifest, self.writable, self.fsync)


def _corrupt(location: str, found: str) -> BlockCorruptError:
    return BlockCorruptError(
        "a block is damaged: its checksum is wrong, it is cut short, or it is of another size",
        where=location,
        found=found,
        fix=REDUMP,
    )


def _unreadable(location: str, error: Exception) -> StoreUnreadableError:
    return StoreUnreadableError(
        "a block cannot be read",
        where=location,
        found=said_by(error),
        fix=what_to_do(error, "check the disk and its permissions") + "; the block itself may be undamaged",
    )
