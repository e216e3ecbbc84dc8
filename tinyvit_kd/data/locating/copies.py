"""Whole copies of shards from URLs in a folder on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tinyvit_kd.data.locating.remote import cache_name, local_file
from tinyvit_kd.data.locating.served import located
from tinyvit_kd.runtime.heartbeat import saying

INDEXES = "indexes"
"""Folder in ``shards.cache_dir`` for byte indexes of shards at URLs, beside which nothing can be written."""


class LocalCopies(Protocol):
    """Keeps copies of shards on this machine. It travels by pickle, and holds no connection."""

    def local_path(self, location: str) -> Path:
        """The file that holds a shard, which is fetched first if it is not there.

        Raises:
            ShardError, OSError: it cannot be fetched.
        """
        ...


@dataclass(frozen=True)
class WholeCopies:
    """Fetches a shard when it is first needed, and keeps it for ever.

    Attributes:
        folder: it is made.
    """

    folder: Path

    def local_path(self, location: str) -> Path:
        """As ``LocalCopies.local_path``."""
        kept = self.folder / cache_name(location)
        if kept.exists() or (found := located(location)) is None:
            return local_file(location, self.folder)
        storage, name = found
        with saying(f"fetching {location}"):
            storage.fetch(name, kept)
        return kept


def copies_in(cache_dir: Path | None) -> LocalCopies | None:
    """What keeps copies in ``shards.cache_dir``; None without one."""
    return None if cache_dir is None else WholeCopies(cache_dir)
