"""The files in which a finished run leaves its student: one function per format, and the table that names them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tinyvit_kd.models.modelfile import MODEL, ModelCard, StateDict, save_model
from tinyvit_kd.models.timm_config import TIMM_CONFIG, save_timm_config

Export = Callable[[Path, StateDict, ModelCard, bool], None]

EXPORTS: dict[str, Export] = {MODEL: save_model, TIMM_CONFIG: save_timm_config}
"""By file name in the run folder: writes weights [by name] and card, whole or not at all; the last says to flush."""


def export_student(folder: Path, state: StateDict, card: ModelCard, fsync: bool = False) -> list[Path]:
    """Write a student in every format.

    Args:
        folder: of the run.
        state: weights by name, under timm's names.
        card: what the network is.
        fsync: flush the files to the disk before they take their names.

    Returns:
        the files. A format that cannot hold the network (timm's, where timm does not know it) has none.
    """
    for name, write in EXPORTS.items():
        write(folder / name, state, card, fsync)
    return [path for name in EXPORTS if (path := folder / name).exists()]
