"""Opens the place of a run: its folder or, of an output at a URL, that and a folder of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.runs.run_home import RunHome
from tinyvit_kd.runs.work_folder import run_folder
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import sole_writer
from tinyvit_kd.runtime.signals import AgreedStop
from tinyvit_kd.storage.copies import local_path
from tinyvit_kd.storage.open import open_storage


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
    from tinyvit_kd.runs.mirrored_home import MirroredHome
    from tinyvit_kd.runs.run_mirror import RunMirror

    storage, folder, keep = open_storage(config.output), run_folder(config), config.train.keep_checkpoints
    agreed = False
    try:
        with sole_writer(folder) if job.is_main else nullcontext():
            mirror = RunMirror(storage, folder, keep, config.runtime) if job.is_main else None
            with mirror or nullcontext():
                run = job.broadcast(None if mirror is None else mirror.run)
                try:
                    yield MirroredHome(storage, folder, run, keep, mirror)
                except AgreedStop:
                    agreed = True
                    raise
    finally:
        if agreed:  # torchrun ends all processes once one has left: not while rank 0 uploads
            job.barrier()
    job.barrier()  # nobody is done before what the run has made is there
