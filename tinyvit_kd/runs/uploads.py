"""Keeps files at a URL like those of a folder that a job writes to: what has changed is uploaded now and then."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tinyvit_kd.runtime.watchdog import leave_no_notes
from tinyvit_kd.storage.base import Storage

EVERY = 30.0  # seconds between two looks at the files
_AT_ONCE = 1 << 20  # bytes of a growing file that are uploaded at every look; a larger one takes its turn less often
_WHOLE = 1 << 24  # bytes of a file that is read at once, so that it is uploaded as it was at one moment

Names = Callable[[], Iterator[str]]
Signature = tuple[int, int]  # size in bytes, and time of change


class FileUploads:
    """Uploads the files of a folder that have changed. Several threads may call.

    Args:
        folder: what is uploaded.
        storage: where to.
        names: of the files, relative to the folder, in the order in which they are uploaded.
    """

    def __init__(self, folder: Path, storage: Storage, names: Names) -> None:
        self._folder, self._storage, self._names = folder, storage, names
        self._uploaded: dict[str, tuple[Signature, float]] = {}  # and when, as ``time.monotonic`` counts
        self._busy = threading.Lock()

    def note(self, name: str) -> None:
        """Note that a file is at the URL as it is in the folder."""
        signature = self._signature(name)
        if signature is not None:
            self._uploaded[name] = signature, -float("inf")

    def upload(self, everything: bool = True, names: Names | None = None) -> None:
        """Upload what has changed.

        Args:
            everything: large files, too, that were uploaded a short while ago.
            names: None: those of this object.

        Raises:
            OSError: the storage refuses.
        """
        with self._busy:
            for name in (names or self._names)():
                signature = self._signature(name)
                before, when = self._uploaded.get(name, (None, -float("inf")))
                turn = EVERY * (signature[0] / _AT_ONCE if signature else 0)
                if signature is None or signature == before or (not everything and time.monotonic() - when < turn):
                    continue
                if self._send(name, signature[0]):
                    self._uploaded[name] = signature, time.monotonic()

    def _send(self, name: str, size: int) -> bool:
        path = self._folder.joinpath(name)
        if size > _WHOLE:
            self._storage.upload(path, name)
            return True
        try:
            content = path.read_bytes()
        except FileNotFoundError:  # it was removed meanwhile
            return False
        self._storage.write(name, content)
        return True

    def _signature(self, name: str) -> Signature | None:
        try:
            status = self._folder.joinpath(name).stat()
        except OSError:
            return None
        return status.st_size, status.st_mtime_ns


class Repeating:
    """Calls a function every few seconds, in a thread, until it is stopped.

    Args:
        action: what is called; it raises nothing.
        every: seconds from the end of one call to the next.
    """

    def __init__(self, action: Callable[[], None], every: float, name: str) -> None:
        self._action, self._every = action, every
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Call it no more, and wait for a call that is under way."""
        self._over.set()
        while self._thread.is_alive():
            self._thread.join(0.2)  # a signal gets its turn

    def _repeat(self) -> None:
        leave_no_notes()
        while not self._over.wait(self._every):
            self._action()
