"""The folder of this machine in which a run or a dump works: its own or, where that is at a URL, one in its place."""

from __future__ import annotations

from pathlib import Path

from tinyvit_kd.config.recipes import DumpConfig, TrainingConfig
from tinyvit_kd.config.training import RuntimeConfig
from tinyvit_kd.runs.run_files import RECIPE, beside_store
from tinyvit_kd.runtime.cache_folder import cache_folder, folder_name
from tinyvit_kd.storage.copies import local_path, parts_of
from tinyvit_kd.storage.open import open_storage


def run_folder(config: TrainingConfig) -> Path:
    """The folder that a run reads and writes; of an output at a URL, the one that ``runs.run_home`` keeps."""
    path = local_path(config.output)
    return _work_folder(config.runtime, config.output) if path is None else path


def is_begun(output: str) -> bool:
    """Whether there is something where a run is to be: a folder or, at a URL, its recipe.

    Raises:
        OSError: the storage refuses.
    """
    path = local_path(output)
    return open_storage(output).info(RECIPE) is not None if path is None else path.exists()


def dump_folder(config: DumpConfig) -> Path:
    """The folder of the files that a dump keeps beside its store; of a store at a URL, one in its place."""
    path = local_path(config.store.path)
    if path is None:
        return _work_folder(config.runtime, parts_of(config.store.path)[0])
    return path.absolute().parent


def dump_path(config: DumpConfig, ending: str, part: tuple[int, int]) -> Path:
    """The path of one of these files (see ``run_files.beside_store``)."""
    path = beside_store(config.store.path, ending, part, dump_folder(config))
    assert path is not None, "there is a folder"
    return path


def _work_folder(runtime: RuntimeConfig, url: str) -> Path:
    above = cache_folder("runs") if runtime.work_dir is None else runtime.work_dir
    return above / folder_name(url)
