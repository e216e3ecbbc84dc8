"""Lets zarr read and write the files of a storage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from tinyvit_kd.storage.base import Storage


class ZarrFiles(Store):  # type: ignore[misc]  # zarr is not typed for mypy here
    """A zarr store whose keys are the names of a storage's files.

    Args:
        storage: where the files are.
        read_only: refuse to write and to remove.
        durable: flush each file to the disk before it is renamed to its final name.
    """

    supports_writes = True
    supports_deletes = True
    supports_listing = True
    supports_partial_writes = False  # an abstract property until zarr 3.1

    def __init__(self, storage: Storage, *, read_only: bool = False, durable: bool = False) -> None:
        super().__init__(read_only=read_only)
        self._storage = storage
        self._durable = durable

    def with_read_only(self, read_only: bool = False) -> ZarrFiles:
        """The same files, read-only or writable."""
        return ZarrFiles(self._storage, read_only=read_only, durable=self._durable)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ZarrFiles) and self._storage.root == other._storage.root

    def __str__(self) -> str:
        return self._storage.locate()

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """A file or a part of one; None if it does not exist."""
        content = await asyncio.to_thread(self._read, key, byte_range)
        return None if content is None else (prototype or default_buffer_prototype()).buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several files or parts of files."""
        return [await self.get(key, prototype, byte_range) for key, byte_range in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether a file exists."""
        return await asyncio.to_thread(self._storage.info, key) is not None

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file, completely or not at all."""
        self._check_writable()
        await asyncio.to_thread(self._storage.write, key, value.as_buffer_like(), self._durable)

    async def set_partial_values(self, key_start_values: Iterable[tuple[str, int, bytes]]) -> None:
        """An abstract method until zarr 3.1, which nothing calls where partial writes are not supported."""
        raise NotImplementedError

    async def delete(self, key: str) -> None:
        """Remove a file."""
        self._check_writable()
        await asyncio.to_thread(self._storage.remove, key)

    async def list(self) -> AsyncIterator[str]:
        """All files."""
        async for key in self.list_prefix(""):
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """All files whose names begin with ``prefix``, which must be the name of a folder."""
        for entry in self._storage.list(prefix.rstrip("/")):
            if entry.kind == "file":
                yield entry.name
            elif entry.kind == "folder":
                async for key in self.list_prefix(entry.name):
                    yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """What lies directly in a folder."""
        for entry in self._storage.list(prefix.rstrip("/")):
            yield entry.base

    def _read(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        try:
            if byte_range is None:
                return self._storage.read(key)
            info = self._storage.info(key)
            if info is None:
                return None
            start, stop = _bounds(byte_range, info.size)
            return self._storage.read_range(key, start, stop - start)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None


def _bounds(byte_range: ByteRequest, size: int) -> tuple[int, int]:
    """The range as (first byte, one past the last byte)."""
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.start, min(byte_range.end, size)
    if isinstance(byte_range, OffsetByteRequest):
        return byte_range.offset, size
    return max(0, size - byte_range.suffix), size
