"""What keeps copies of shards on this machine, for those that read them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tinyvit_kd.storage.base import FileInfo

INDEXES = "indexes"
"""Folder in ``shards.cache_dir`` for byte indexes of shards at URLs, beside which nothing can be written."""


class LocalCopies(Protocol):
    """Keeps copies of shards on this machine. It travels by pickle, and holds no connection."""

    def keeps(self, location: str) -> bool:
        """Whether a shard's samples are read from a copy."""
        ...

    def is_awaited(self, location: str) -> bool:
        """Whether a copy is on its way, and a sample may be read where the shard comes from."""
        ...

    def local_path(self, location: str, info: FileInfo | None = None) -> Path:
        """The file that holds a shard, which is fetched first if it is not there.

        Args:
            info: of the shard where it comes from, if that is known: an older copy is replaced.

        Raises:
            ShardError, OSError: it cannot be fetched.
        """
        ...
