"""Files that stay open for random reads, so many at a time."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from tinyvit_kd.errors import ShardError


class OpenFiles:
    """The descriptors of the files that were read last. For one thread; a copy sent elsewhere starts empty.

    Args:
        limit: files open at a time.
    """

    def __init__(self, limit: int = 256) -> None:
        self._limit = limit
        self._open: OrderedDict[Path, int] = OrderedDict()

    def descriptor(self, path: Path) -> int:
        """A descriptor for ``os.pread``; valid until ``limit`` other files have been asked for."""
        if path not in self._open:
            self._open[path] = os.open(path, os.O_RDONLY)
            if len(self._open) > self._limit:
                os.close(self._open.popitem(last=False)[1])
        self._open.move_to_end(path)
        return self._open[path]

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """``size`` bytes of a file from ``offset`` on.

        Raises:
            ShardError: the file is missing, unreadable or too short.
        """
        try:
            content = os.pread(self.descriptor(path), size, offset)
        except OSError as error:
            raise ShardError("cannot read from a file", where=str(path), found=error.strerror or str(error)) from None
        if len(content) != size:
            raise ShardError(
                "a file is shorter than its index says",
                where=str(path),
                found=f"{len(content):,} bytes at byte {offset:,}",
                expected=f"{size:,} bytes",
                fix="it has changed since it was opened; restore it, then start again",
            )
        return content

    def close(self) -> None:
        """Close all."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[Callable[[int], OpenFiles], tuple[int]]:
        return OpenFiles, (self._limit,)
