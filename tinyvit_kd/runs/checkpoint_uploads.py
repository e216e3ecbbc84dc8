"""Uploads checkpoints while training goes on: one at a time, and of those that wait the newest alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from tinyvit_kd.runtime.watchdog import leave_no_notes
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.training.checkpoint_files import CHECKPOINTS, is_checkpoint

_AGAIN_AFTER = 10.0  # seconds after a failure


def remote_checkpoints(storage: Storage) -> list[str]:
    """Names of the checkpoints of a run at a URL, without folders, the newest first; one request."""
    return sorted((each.base for each in storage.list(CHECKPOINTS) if is_checkpoint(each.base)), reverse=True)


def remote_name(name: str) -> str:
    """Where a checkpoint is within a run."""
    return f"{CHECKPOINTS}/{name}"


class CheckpointUploads:
    """A thread that uploads checkpoints.

    Args:
        storage: of the run.
        keep: how many of the newest stay at the URL.
        before: called before each upload, so that all that belongs to the checkpoint is there when it counts.
        arrived: called after each upload.
        failed: told what went wrong; returns whether to try again.
    """

    def __init__(
        self,
        storage: Storage,
        keep: int,
        before: Callable[[], None],
        arrived: Callable[[], None],
        failed: Callable[[Exception], bool],
    ) -> None:
        self._storage, self._keep, self._before, self._after, self._failed = storage, keep, before, arrived, failed
        self._changed = threading.Condition()
        self._next: Path | None = None
        self._over = False
        self._arrived = True
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def submit(self, path: Path) -> None:
        """Upload a checkpoint, in place of one that still waits."""
        with self._changed:
            self._next = path
            self._changed.notify_all()

    def finish(self) -> bool:
        """Wait until the newest has arrived, or cannot be uploaded; returns whether it has, or there was none."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        while self._thread.is_alive():
            self._thread.join(0.2)  # a signal gets its turn
        return self._arrived

    def upload(self, path: Path, removes: bool = True) -> None:
        """Upload a checkpoint now, and remove all but the newest up to it.

        Args:
            removes: False for one that nobody has read yet, which must not displace those that are whole.

        Raises:
            OSError: the storage refuses.
            TinyVitKdError: another process is the writer now.
        """
        self._before()
        self._storage.upload(path, remote_name(path.name))
        if not removes:
            return
        older = [name for name in remote_checkpoints(self._storage) if name <= path.name]
        for name in older[self._keep :]:
            self._storage.remove(remote_name(name))

    def _work(self) -> None:
        leave_no_notes()
        while (path := self._taken()) is not None:
            self._arrived = False
            try:
                self.upload(path)
                self._arrived = True
                self._after()
            except Exception as error:  # whatever it is, the thread has to live: ``finish`` tells what did not arrive
                if self._failed(error):
                    self._put_back(path)

    def _taken(self) -> Path | None:
        with self._changed:
            self._changed.wait_for(lambda: self._next is not None or self._over)
            path, self._next = self._next, None
            return path

    def _put_back(self, path: Path) -> None:
        """Try again later, unless a newer one has come."""
        deadline = time.monotonic() + _AGAIN_AFTER
        with self._changed:
            self._changed.wait_for(lambda: self._over or self._next is not None, deadline - time.monotonic())
            self._next = self._next or path
