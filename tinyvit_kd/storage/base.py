"""The interface that stores and shards read and write through: a few calls that disks and object stores both have."""

from __future__ import annotations

import errno
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from tinyvit_kd.runtime.files import atomic_path

EntryKind = Literal["file", "folder", "other"]
_COPIED = 1 << 24  # bytes at a time


class Entry(NamedTuple):
    """A file, a folder or something else in a folder's listing."""

    name: str  # relative to the storage's root, with "/" between its parts
    kind: EntryKind  # of a link: the kind of its target; "other": a device or a broken link
    is_link: bool = False
    size: int | None = None  # bytes; None where a listing does not say it

    @property
    def base(self) -> str:
        """The last part of the name."""
        return self.name.rpartition("/")[2]


class FileInfo(NamedTuple):
    """Size and modification time of a file."""

    size: int  # bytes
    modified_ns: int  # nanoseconds since 1970
    tag: str = ""  # of an object's content, where a service gives one (ETag)


class Storage(ABC):
    """Files by name, under one root. A storage can be pickled; each process opens files for itself.

    Names are relative to the root, with "/" between their parts. A file appears complete or not at all. If the system
    refuses something, an ``OSError`` is raised; if a file does not exist, a ``FileNotFoundError``.

    Args:
        root: a folder or a URL.
    """

    at_a_time: ClassVar[int] = 1
    """How many requests are worth having under way at a time; with more than 1, threads may share a storage."""

    def __init__(self, root: str) -> None:
        self.root = root

    @abstractmethod
    def list(self, folder: str = "") -> list[Entry]:
        """The entries directly in a folder, sorted by name; empty if there is no such folder."""

    @abstractmethod
    def info(self, name: str) -> FileInfo | None:
        """Size and modification time of a file; None if there is no file with this name."""

    def infos(self, folder: str = "") -> dict[str, FileInfo]:
        """Size and modification time of all files directly in a folder, by name; with few requests where possible."""
        found = ((entry.name, self.info(entry.name)) for entry in self.list(folder) if entry.kind == "file")
        return {name: info for name, info in found if info is not None}

    @abstractmethod
    def read(self, name: str) -> bytes:
        """The content of a file."""

    @abstractmethod
    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on; fewer if the file ends before that."""

    @abstractmethod
    def write(self, name: str, content: bytes | memoryview, durable: bool = False) -> None:
        """Write or replace a file. Readers never see it incomplete.

        Args:
            durable: return only once the file would survive a power loss.
        """

    @abstractmethod
    def remove(self, name: str) -> bool:
        """Remove a file, a link or an empty folder, if it exists.

        Returns:
            False if it is a folder that is not empty, which is left as it is.
        """

    @abstractmethod
    def locate(self, name: str = "") -> str:
        """The path or URL of a file, for messages; of the root by default."""

    @property
    def is_local(self) -> bool:
        """Whether files are read through the file system of this machine."""
        return False

    def walk(self, folder: str = "") -> Iterator[Entry]:
        """All files below a folder, in no particular order; with few requests where a storage lists by prefix."""
        for entry in self.list(folder):
            if entry.kind == "folder" and not entry.is_link:
                yield from self.walk(entry.name)
            else:
                yield entry

    def write_new(self, name: str, content: bytes | memoryview, durable: bool = False) -> bool:
        """Write a file unless there is one with this name; of several writers at the same time, one succeeds.

        Where a storage cannot promise the latter, a file that appears at the same moment may be replaced.

        Returns:
            whether it was written.
        """
        if self.info(name) is not None:
            return False
        self.write(name, content, durable)
        return True

    def fetch(self, name: str, path: Path) -> None:
        """Copy a file to a path on this machine, whole or not at all."""
        info = self.info(name)
        if info is None:
            raise FileNotFoundError(self.locate(name))
        with atomic_path(path) as aside, aside.open("wb") as file:
            for start in range(0, info.size, _COPIED):
                file.write(self.read_range(name, start, _COPIED))

    def upload(self, path: Path, name: str) -> None:
        """Copy a file of this machine into the storage, whole or not at all."""
        self.write(name, path.read_bytes())

    def owns(self, name: str) -> bool:
        """Whether a file lies in this storage, not in another one that a link leads to."""
        del name
        return True

    def is_same(self, other: Storage) -> bool:
        """Whether two storages have the same root."""
        return self.locate().rstrip("/") == other.locate().rstrip("/")

    def is_writable(self) -> bool:
        """Whether files can be written, as far as this is known without trying."""
        return True

    def require_free_space(self, size: int) -> None:
        """Check that there is room for ``size`` bytes, if the storage knows its limit.

        Raises:
            DiskSpaceError: there is not enough room.
        """
        del size

    def sync_folder(self, folder: str = "") -> None:
        """Make the names in a folder survive a power loss, if the storage has folders."""
        del folder

    def close(self) -> None:  # noqa: B027 - most storages keep nothing open
        """Close open files and connections; they are opened again when they are needed."""


def read_limited(storage: Storage, name: str, limit: int) -> bytes | int:
    """The content of a file of ``limit`` bytes or fewer; of a larger one, which is not read, how many it has or more.

    On a disk that is a look and a read; of an object store one request.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if storage.at_a_time > 1:
        content = storage.read_range(name, 0, limit + 1)
        return content if len(content) <= limit else len(content)
    info = storage.info(name)
    if info is None:
        raise FileNotFoundError(errno.ENOENT, "there is no such file", storage.locate(name))
    return info.size if info.size > limit else storage.read(name)


class RangeReader(io.RawIOBase):
    """A seekable stream over a file of a storage; to be wrapped in ``io.BufferedReader``.

    Args:
        read_range: returns bytes of the file, given offset and size.
        size: of the file, bytes.
    """

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
        """Position of the next byte to be read."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to ``offset`` bytes from the start, from the current position or from the end."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            raise ValueError(f"negative seek position {start + offset}")
        self._position = start + offset
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer; returns how many bytes were read."""
        content = self._read_range(self._position, len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)
