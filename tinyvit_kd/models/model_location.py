"""Where a model's files are on this machine: as they are or, of a URL, as copies."""

from __future__ import annotations

from pathlib import Path

from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.modelfile import FOLDERS
from tinyvit_kd.models.timm_config import TIMM_CONFIG
from tinyvit_kd.storage.copies import copied, local_path, parts_of
from tinyvit_kd.storage.open import open_storage


def model_path(location: str, *others: str) -> Path:
    """The path of a model's folder or file on this machine; what is at a URL is fetched if it has changed.

    Args:
        location: path or URL of a run folder, of a folder of timm's, or of a file.
        others: names of further files that are wanted of a folder.

    Raises:
        CheckpointError: there is no model at the URL.
        OSError: the storage or the disk refuses.
    """
    path = local_path(location)
    if path is not None:
        return path
    folder, name = parts_of(location)
    if name and Path(name).suffix and open_storage(folder).info(name) is not None:
        return copied(folder, (name, TIMM_CONFIG)).joinpath(name)
    weights = _weights_below(location)
    if weights is None:
        raise CheckpointError(
            "there is no model at this URL",
            where=location,
            expected=f"a file of weights, or one of {', '.join(FOLDERS)} below it",
            fix="finish the run that makes it, or correct the URL",
        )
    return copied(location, (weights, TIMM_CONFIG, *others))


def is_there(location: str) -> bool:
    """Whether a location exists; of a URL, whether a model is at it."""
    path = local_path(location)
    if path is not None:
        return path.exists()
    folder, name = parts_of(location)
    if name and open_storage(folder).info(name) is not None:
        return True
    return _weights_below(location) is not None


def _weights_below(url: str) -> str | None:
    """The name of the file of weights in a folder at a URL; None if there is none."""
    storage = open_storage(url)
    return next((each for each in FOLDERS if storage.info(each) is not None), None)
