"""Where a run's files are: in its folder or, of an output at a URL, there and in a folder of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import sole_writer
from tinyvit_kd.runtime.shared_disks import await_visible
from tinyvit_kd.runtime.signals import StopRequest
from tinyvit_kd.training.checkpoint_files import CHECKPOINTS, checkpoint_path, checkpoints


class RunHome:
    """A run's folder.

    Attributes:
        folder: in which the run works.
        where: its path or URL, for people.
    """

    def __init__(self, folder: Path, where: str) -> None:
        self.folder, self.where = folder, where

    def writing(self, job: Job) -> AbstractContextManager[None]:
        """Keep other processes from writing to the run while the context lasts."""
        return sole_writer(self.folder) if job.is_main else nullcontext()

    def has_checkpoints(self) -> bool:
        """On rank 0: whether there are checkpoints to continue from."""
        return bool(checkpoints(self.folder / CHECKPOINTS))

    def checkpoints(self) -> Iterator[Path]:
        """On rank 0: the checkpoints to continue from, the newest first."""
        yield from checkpoints(self.folder / CHECKPOINTS)

    def checkpoint_of(self, step: int) -> Path:
        """On other ranks: rank 0's checkpoint, which a shared disk may show to other machines a little later."""
        path = checkpoint_path(self.folder / CHECKPOINTS, step)
        await_visible(path.exists)
        return path

    def on_checkpoint(self, path: Path) -> None:
        """Take care of a checkpoint that rank 0 has written."""

    def heed(self, stop: StopRequest) -> None:
        """Ask the run to stop by this request, once there is no use in going on."""
