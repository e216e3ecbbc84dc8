"""The local file system, or a mounted network file system, as a storage.

Errors that pass on a network file system, such as a stale handle, are met by trying again (``runtime.shared_disks``).
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tinyvit_kd.runtime.files import atomic_create, atomic_write, fsync_folder, require_free_space
from tinyvit_kd.runtime.shared_disks import is_deleted, patiently
from tinyvit_kd.storage.base import Entry, EntryKind, FileInfo, Storage

_OPEN_FILES = 256  # file descriptors that read_range keeps


class LocalStorage(Storage):
    """Files in a folder.

    ``read_range`` keeps the most recently read files open, so only one thread may use it.

    Args:
        root: the folder; "" means that names are paths, relative to the working directory or absolute.
        open_files: how many files ``read_range`` keeps open.
    """

    def __init__(self, root: str = "", open_files: int = _OPEN_FILES) -> None:
        super().__init__(root)
        self._limit = open_files
        self._open: OrderedDict[str, int] = OrderedDict()

    def list(self, folder: str = "") -> list[Entry]:
        """As ``Storage.list``; one scan of the folder, without what NFS keeps of deleted files."""
        prefix = f"{folder.rstrip('/')}/" if folder else ""
        path = self.locate(folder) or "."
        try:
            return sorted(patiently(lambda: _scanned(path, prefix), path))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def info(self, name: str) -> FileInfo | None:
        """As ``Storage.info``; one system call."""
        path = self.locate(name)
        try:
            status = patiently(lambda: os.stat(path), path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return FileInfo(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None

    def read(self, name: str) -> bytes:
        """As ``Storage.read``."""
        path = self.locate(name)
        return patiently(lambda: _content(path), path)

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        """As ``Storage.read_range``, by ``pread`` on a file that stays open, or is opened again after an error."""
        try:
            return os.pread(self._descriptor(name), size, offset)
        except OSError:
            self._forget(name)
        path = self.locate(name)
        return patiently(
            lambda: os.pread(self._descriptor(name), size, offset), path, before_retry=lambda: self._forget(name)
        )

    def write(self, name: str, content: bytes | memoryview, durable: bool = False) -> None:
        """As ``Storage.write``; a temporary file is written and renamed."""
        atomic_write(Path(self.locate(name)), content, fsync=durable)

    @property
    def is_local(self) -> bool:
        """Yes."""
        return True

    def write_new(self, name: str, content: bytes | memoryview, durable: bool = False) -> bool:
        """As ``Storage.write_new``; a temporary file is written, and linked under its name."""
        return atomic_create(Path(self.locate(name)), content, fsync=durable)

    def remove(self, name: str) -> bool:
        """As ``Storage.remove``."""
        path = self.locate(name)
        if not os.path.isdir(path):
            Path(path).unlink(missing_ok=True)
        elif os.path.islink(path) or os.listdir(path):
            return False
        else:
            os.rmdir(path)
        return True

    def locate(self, name: str = "") -> str:
        """The path of a file; of the root by default."""
        return os.path.join(self.root, name) if name else self.root

    def owns(self, name: str) -> bool:
        """Whether the folder of a file lies below the root when links are followed."""
        return Path(self.locate(name)).parent.resolve().is_relative_to(Path(self.root).resolve())

    def is_same(self, other: Storage) -> bool:
        """Whether both roots are the same folder when links are followed."""
        return isinstance(other, LocalStorage) and Path(self.root).resolve() == Path(other.root).resolve()

    def is_writable(self) -> bool:
        """Whether this user may write to the root; True if it does not exist yet."""
        return not os.path.exists(self.root) or os.access(self.root, os.W_OK | os.X_OK)

    def require_free_space(self, size: int) -> None:
        """As ``Storage.require_free_space``."""
        require_free_space(Path(self.root), size)

    def sync_folder(self, folder: str = "") -> None:
        """As ``Storage.sync_folder``."""
        fsync_folder(Path(self.locate(folder)))

    def close(self) -> None:
        """Close the files that ``read_range`` keeps open."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[[str, int], LocalStorage], tuple[str, int]]:
        # A copy in another process starts without open files.
        return LocalStorage, (self.root, self._limit)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LocalStorage) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    def _descriptor(self, name: str) -> int:
        if name not in self._open:
            self._open[name] = self._opened(name)
            if len(self._open) > self._limit:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(name)
        return self._open[name]

    def _forget(self, name: str) -> None:
        """Close a file: its handle may be that of a file that was replaced on the server."""
        descriptor = self._open.pop(name, None)
        if descriptor is not None:
            with suppress(OSError):
                os.close(descriptor)

    def _opened(self, name: str) -> int:
        """A descriptor; where the limit of open files is lower than ours, those that are kept make room."""
        while True:
            try:
                return os.open(self.locate(name), os.O_RDONLY)
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._open:
                    raise
            self._limit = max(1, len(self._open) // 2)
            while len(self._open) >= self._limit:
                os.close(self._open.popitem(last=False)[1])


def _scanned(path: str, prefix: str) -> list[Entry]:
    with os.scandir(path) as entries:
        return [
            Entry(prefix + entry.name, _kind(entry), entry.is_symlink())
            for entry in entries
            if not is_deleted(entry.name)
        ]


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _kind(entry: os.DirEntry[str]) -> EntryKind:
    if entry.is_dir():
        return "folder"
    return "file" if entry.is_file() else "other"
