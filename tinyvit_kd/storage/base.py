"""The interface under stores and shard files: a few calls that a disk and an object store both have."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, NamedTuple

Kind = Literal["file", "folder", "other"]


class Entry(NamedTuple):
    """What a listing says of one name."""

    name: str  # relative to the storage's root, "/" between its parts
    kind: Kind  # of what a link leads to; "other": a device, or a link that leads nowhere
    is_link: bool = False

    @property
    def base(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]


class FileInfo(NamedTuple):
    """Size and age of a file."""

    size: int  # bytes
    modified_ns: int  # nanoseconds since 1970


class Storage(ABC):
    """Files by name, under one root. Each process opens its own; it can be pickled.

    Names are relative to the root, with "/" between their parts. A file appears whole or not at all. Whatever the
    system refuses is an ``OSError``; what is not there, a ``FileNotFoundError``.

    Args:
        root: a folder or a URL.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    @abstractmethod
    def list(self, folder: str = "") -> list[Entry]:
        """What lies directly in a folder, by name; empty where there is no such folder."""

    @abstractmethod
    def info(self, name: str) -> FileInfo | None:
        """Size and time of a file; None where there is no file of this name."""

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file."""

    @abstractmethod
    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on; fewer where the file ends before."""

    @abstractmethod
    def write(self, name: str, content: bytes | memoryview, durable: bool = False) -> None:
        """Write a file, or replace it; no reader ever sees a part of it.

        Args:
            durable: return only when it would survive a power loss.
        """

    @abstractmethod
    def remove(self, name: str) -> bool:
        """Remove a file, a link or an empty folder, if it is there.

        Returns:
            False where something else would be lost: a folder that holds something is left as it is.
        """

    @abstractmethod
    def locate(self, name: str = "") -> str:
        """The path or URL of a name, for messages."""

    def owns(self, name: str) -> bool:
        """Whether a file is this storage's own, not another's that a link leads to."""
        del name
        return True

    def is_same(self, other: Storage) -> bool:
        """Whether both have the same root."""
        return self.locate() == other.locate()

    def is_writable(self) -> bool:
        """Whether files can be written, as far as that is known beforehand."""
        return True

    def require_free_space(self, size: int) -> None:
        """Check that there is room for ``size`` bytes, where the storage knows its limit.

        Raises:
            DiskSpaceError: there is not.
        """
        del size

    def sync_folder(self, folder: str = "") -> None:
        """Make the names in a folder survive a power loss, where the storage has folders."""
        del folder

    def close(self) -> None:  # noqa: B027 - most storages keep nothing open
        """Give back what is open; it is opened again when it is needed."""


class RangeReader(io.RawIOBase):
    """A file of a storage as a stream that can seek; wrap it in ``io.BufferedReader``."""

    def __init__(self, read_range: Callable[[int, int], bytes], size: int) -> None:
        self._read_range = read_range
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def tell(self) -> int:
        """The next byte to be read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to ``offset`` bytes from the start, from here or from the end."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer; returns how many bytes there were."""
        content = self._read_range(self._position, len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
