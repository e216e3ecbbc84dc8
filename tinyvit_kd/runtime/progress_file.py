"""``progress.json``: how far a job is, in a small file for whoever looks from outside.

A thread writes it, so that neither a step nor an exit waits for the disk.
"""

from __future__ import annotations

import glob
import threading
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType

from tinyvit_kd.runtime.files import write_json
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.signals import ending_by

PROGRESS = "progress.json"
WRITE_EVERY = 5.0  # seconds
_LAST_WRITE = 10.0  # seconds that an exit waits for the disk


class ProgressFile(AbstractContextManager[Progress]):
    """Writes a job's progress while the context lasts, whole or not at all; its end says how the job ended.

    A disk that refuses costs the file, not the job: it is tried again.

    Args:
        path: of the file, which is written once its folder is there; None: nothing is written.
        progress: what is written.
        every: seconds between two writings.
    """

    def __init__(self, path: Path | None, progress: Progress, every: float = WRITE_EVERY) -> None:
        self._path, self._progress, self._every = path, progress, every
        self._due = threading.Event()
        self._ended = False
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Progress:
        if self._path is not None:
            for leftover in self._path.parent.glob(f".{glob.escape(self._path.name)}.*.partial"):
                with suppress(OSError):
                    leftover.unlink()
            self._due.set()
            self._progress.on_change = self._due.set
            self._start()
        return self._progress

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        progress = self._progress
        progress.on_change = None
        if error is not None:
            progress.enter(*ending_by(error))
        elif progress.state != "finished":
            progress.enter("finished")
        self._ended = True
        self._due.set()
        if self._thread is not None:
            self._thread.join(_LAST_WRITE)  # a disk that hangs keeps no job from ending

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._keep_written, name="progress", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the system allows no more threads: the job goes on without the file
            self._thread = None

    def _keep_written(self) -> None:
        while True:
            self._due.wait(self._every)
            self._due.clear()
            ended = self._ended  # read before the values, so that the last ones are written
            written = self._write()
            if ended:
                return
            if not written:
                time.sleep(min(1.0, self._every))

    def _write(self) -> bool:
        assert self._path is not None
        try:
            if not self._path.parent.is_dir():
                return False
            write_json(self._path, self._progress.as_dict(time.time()))
        except OSError:
            return False
        return True
