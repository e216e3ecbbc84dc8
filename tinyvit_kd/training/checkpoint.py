"""Checkpoints: written aside and renamed, loaded without executing code, the newest readable one wins."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterable
from copy import copy
from pathlib import Path
from typing import Any

import torch

from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.runtime.files import atomic_path, remove_unfinished
from tinyvit_kd.runtime.foreign_errors import first_line_of, system_error_behind
from tinyvit_kd.runtime.shared_disks import patiently
from tinyvit_kd.runtime.watchdog import doing
from tinyvit_kd.training.checkpoint_files import CHECKPOINTS as CHECKPOINTS
from tinyvit_kd.training.checkpoint_files import checkpoint_path as checkpoint_path
from tinyvit_kd.training.checkpoint_files import checkpoints as checkpoints
from tinyvit_kd.training.checkpoint_files import remove_older

_REQUIRED = frozenset({"model", "optimizer", "step", "identity", "kept"})


def save_checkpoint(folder: Path, state: dict[str, Any], step: int, keep: int, fsync: bool = False) -> Path:
    """Write ``step-000001234.pt`` and remove all but the newest ``keep`` up to it.

    Only one process may write to a folder; what a killed one left half written is removed.
    """
    path = checkpoint_path(folder, step)
    remove_unfinished(folder)

    def write() -> None:
        with atomic_path(path, fsync) as temporary:
            _write(temporary, state)

    patiently(write, str(path))
    remove_older(path, keep)
    return path


def _write(path: Path, state: dict[str, Any]) -> None:
    try:
        with path.open("wb") as file:
            torch.save(_with_shared_texts(state), file)
    except (RuntimeError, OSError) as error:
        refused = system_error_behind(error)
        if refused is None:
            raise
        raise OSError(refused.errno, refused.strerror, str(path)) from error


def _with_shared_texts(value: Any) -> Any:
    """The same content in which equal texts are one object.

    A pickle writes an object once and refers to it afterwards. Texts that were read from a checkpoint are objects of
    their own; so a run that went on would write other bytes than one that nothing stopped.
    """
    if isinstance(value, str):
        return sys.intern(str(value))
    if isinstance(value, dict):
        same = copy(value)  # of the same kind, with its attributes: a state dict has some
        same.clear()
        same.update((_with_shared_texts(name), _with_shared_texts(each)) for name, each in value.items())
        if hasattr(value, "__dict__"):
            same.__dict__.update(_with_shared_texts(value.__dict__))
        return same
    if type(value) in (list, tuple):
        return type(value)(map(_with_shared_texts, value))
    return value


def load_latest(folder: Path, on_skip: Callable[[CheckpointError], None] | None = None) -> dict[str, Any] | None:
    """The newest checkpoint that is whole; None where there is none at all.

    Raises:
        CheckpointError: there are checkpoints, and none can be read.
    """
    return load_first(checkpoints(folder), on_skip)


def load_first(
    paths: Iterable[Path], on_skip: Callable[[CheckpointError], None] | None = None
) -> dict[str, Any] | None:
    """The first of some checkpoints that is whole; None where there is none at all.

    Raises:
        CheckpointError: none of them can be read.
    """
    problems: list[CheckpointError] = []
    for path in paths:
        try:
            return load_checkpoint(path)
        except CheckpointError as error:
            problems.append(error)
            if on_skip is not None:
                on_skip(error)
    if problems:
        raise problems[0]
    return None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read one checkpoint: tensors, numbers and texts; anything else in it is refused.

    Raises:
        CheckpointError: the file is missing, damaged, holds code, or is not a checkpoint of this package.
    """
    doing(f"reading {path}")
    try:
        _require_whole(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can make zipfile and torch raise anything
        raise CheckpointError(
            "a checkpoint cannot be read",
            where=str(path),
            found=first_line_of(error),
            fix="remove this file: the run continues from the checkpoint before it, or from the start",
        ) from None
    if not isinstance(state, dict) or not state.keys() >= _REQUIRED:
        raise CheckpointError(
            "a file is not a checkpoint of a run",
            where=str(path),
            expected=f"the parts {', '.join(sorted(_REQUIRED))}",
        )
    return state


def _require_whole(path: Path) -> None:
    """Compare the checksums that ``torch.save`` writes; ``torch.load`` does not."""
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} is wrong")
