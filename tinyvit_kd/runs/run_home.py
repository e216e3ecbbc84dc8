"""Where a run's files are: in its folder or, of an output at a URL, there and in a folder of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.runs.work_folder import run_folder
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import sole_writer
from tinyvit_kd.runtime.shared_disks import await_visible
from tinyvit_kd.runtime.signals import StopRequest
from tinyvit_kd.storage.copies import local_path
from tinyvit_kd.storage.open import open_storage
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


@contextmanager
def run_home(config: TrainingConfig, job: Job) -> Iterator[RunHome]:
    """Open the place of a run, for one writer alone.

    Raises:
        BusyError: another process is writing to it.
        StorageUnavailableError: of a run at a URL, what it has written could not be brought there.
        OSError: a storage or the disk refuses.
    """
    if local_path(config.output) is not None:
        yield RunHome(run_folder(config), config.output)
        return
    # Only runs at a URL need what is imported here.
    from tinyvit_kd.runs.run_mirror import MirroredHome, RunMirror

    storage, folder = open_storage(config.output), run_folder(config)
    with sole_writer(folder) if job.is_main else nullcontext():
        mirror = RunMirror(storage, folder, config.train.keep_checkpoints, config.runtime) if job.is_main else None
        with mirror or nullcontext():
            run = job.broadcast(None if mirror is None else mirror.run)
            yield MirroredHome(storage, folder, run, mirror)
