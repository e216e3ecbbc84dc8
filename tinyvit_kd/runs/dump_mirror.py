"""What a dump keeps beside a store at a URL: written in a folder of this machine, and uploaded now and then.

A part of a dump has files of its own, so that parts on several machines are in nobody's way.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.errors import StorageUnavailableError, said_by
from tinyvit_kd.runs.run_files import ATTEMPTS, RESULTS, dump_file_name
from tinyvit_kd.runs.uploads import EVERY, FileUploads, Repeating
from tinyvit_kd.runs.work_folder import dump_folder
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import warn_once
from tinyvit_kd.runtime.progress_file import PROGRESS
from tinyvit_kd.storage.copies import copy_file, local_path, parts_of
from tinyvit_kd.storage.open import open_storage


@contextmanager
def dump_mirror(config: DumpConfig, part: tuple[int, int], job: Job, every: float = EVERY) -> Iterator[None]:
    """Keep the files of a part beside its store, of one at a URL; on rank 0.

    A storage that refuses costs these files, not the dump.

    Args:
        every: seconds between two uploads.
    """
    if not job.is_main or local_path(config.store.path) is not None:
        yield
        return
    above, store = parts_of(config.store.path)
    storage, folder = open_storage(above), dump_folder(config)
    folder.mkdir(parents=True, exist_ok=True)
    names = [dump_file_name(store, ending, part) for ending in ("log", ATTEMPTS, PROGRESS, RESULTS)]
    uploads = FileUploads(folder, storage, lambda: iter(names))
    try:
        for name in names:
            copy_file(storage, name, folder / name)
            uploads.note(name)
    except StorageUnavailableError:  # the store itself would not answer either
        raise
    except OSError as error:  # nor is anything uploaded then: it would replace what could not be read
        warn_once(("beside", above), f"cannot read beside {config.store.path} ({said_by(error)}); the dump goes on")
        names.clear()

    def upload(everything: bool = False) -> None:
        try:
            uploads.upload(everything)
        except OSError as error:
            warn_once(
                ("beside", above), f"cannot write beside {config.store.path} ({said_by(error)}); the dump goes on"
            )

    repeating = Repeating(upload, every, "uploads")
    try:
        yield
    finally:
        repeating.stop()
        upload(everything=True)
