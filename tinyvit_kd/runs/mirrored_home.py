"""The place of a run at a URL: a folder of this machine, and on rank 0 its mirror."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tinyvit_kd.runs.checkpoint_uploads import remote_checkpoints, remote_name
from tinyvit_kd.runs.run_home import RunHome
from tinyvit_kd.runs.run_mirror import RunMirror, make_copy_of
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import sole_writer
from tinyvit_kd.runtime.signals import StopRequest
from tinyvit_kd.storage.base import Storage
from tinyvit_kd.storage.copies import copy_file
from tinyvit_kd.training.checkpoint_files import CHECKPOINTS, checkpoint_path, remove_older


class MirroredHome(RunHome):
    """The place of a run at a URL.

    Args:
        run: drawn at the run's first start.
        keep: checkpoints to keep in the folder.
        mirror: on rank 0.
    """

    def __init__(self, storage: Storage, folder: Path, run: str, keep: int, mirror: RunMirror | None) -> None:
        super().__init__(folder, storage.locate())
        self._storage, self._run, self._keep, self._mirror = storage, run, keep, mirror

    def writing(self, job: Job) -> AbstractContextManager[None]:
        """As ``RunHome.writing``, which has been seen to since the run was opened."""
        del job
        return nullcontext()

    def has_checkpoints(self) -> bool:
        """As ``RunHome.has_checkpoints``; one request."""
        return super().has_checkpoints() or bool(remote_checkpoints(self._storage))

    def checkpoints(self) -> Iterator[Path]:
        """As ``RunHome.checkpoints``."""
        assert self._mirror is not None, "rank 0 asks"
        yield from self._mirror.checkpoints()

    def checkpoint_of(self, step: int) -> Path:
        """As ``RunHome.checkpoint_of``; one process of each machine fetches it, and removes those of earlier starts."""
        with sole_writer(self.folder.with_name(f"{self.folder.name}.fetching"), wait=3600):
            make_copy_of(self.folder, self._run)
            path = checkpoint_path(self.folder / CHECKPOINTS, step)
            if not path.is_file():
                copy_file(self._storage, remote_name(path.name), path)
            remove_older(path, self._keep)
        return path

    def on_checkpoint(self, path: Path) -> None:
        """As ``RunHome.on_checkpoint``: it is uploaded while training goes on."""
        if self._mirror is not None:
            self._mirror.submit(path)

    def heed(self, stop: StopRequest) -> None:
        """As ``RunHome.heed``."""
        if self._mirror is not None:
            self._mirror.heed(stop)
