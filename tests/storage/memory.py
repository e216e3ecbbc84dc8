"""A storage in memory that behaves as an object store does: whole objects by key, and no folders of their own."""

from __future__ import annotations

import time

from tinyvit_kd.storage.base import Entry, FileInfo, Storage

Objects = dict[str, tuple[bytes, int]]


class MemoryStorage(Storage):
    """Objects of one root; all storages of a process that have the same root share them."""

    roots: dict[str, Objects] = {}  # noqa: RUF012 - what the process has stored

    @property
    def objects(self) -> Objects:
        """Content and time by key."""
        return self.roots.setdefault(self.root, {})

    def list(self, folder: str = "") -> list[Entry]:
        prefix = f"{folder}/" if folder else ""
        rests = [key[len(prefix) :] for key in self.objects if key.startswith(prefix)]
        found = {(rest.partition("/")[0], "folder" if "/" in rest else "file") for rest in rests}
        return [Entry(prefix + name, "folder" if kind == "folder" else "file") for name, kind in sorted(found)]

    def info(self, name: str) -> FileInfo | None:
        if name not in self.objects:
            return None
        content, modified = self.objects[name]
        return FileInfo(len(content), modified)

    def read(self, name: str) -> bytes:
        if name not in self.objects:
            raise FileNotFoundError(name)
        return self.objects[name][0]

    def read_range(self, name: str, offset: int, size: int) -> bytes:
        return self.read(name)[offset : offset + size]

    def write(self, name: str, content: bytes | memoryview, durable: bool = False) -> None:
        del durable
        self.objects[name] = bytes(content), time.time_ns()

    def remove(self, name: str) -> bool:
        self.objects.pop(name, None)
        return True

    def locate(self, name: str = "") -> str:
        return f"{self.root}/{name}" if name else self.root
