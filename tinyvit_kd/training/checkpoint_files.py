"""Where the checkpoints of a run lie, for whoever lists them without reading any; imports no torch."""

from __future__ import annotations

import re
from pathlib import Path

CHECKPOINTS = "checkpoints"  # their folder, within a run's
_NAME = re.compile(r"step-(\d+)\.pt")


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step-{step:09d}.pt"


def is_checkpoint(name: str) -> bool:
    """Whether a file's name is that of a checkpoint."""
    return _NAME.fullmatch(name) is not None


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a run, the newest first."""
    found = [path for path in folder.glob("step-*.pt") if is_checkpoint(path.name)]
    return sorted(found, reverse=True)


def remove_older(newest: Path, keep: int) -> None:
    """Remove all but the newest ``keep`` checkpoints up to one, in its folder.

    A later one stays: one that could not be read, and from before which the run went on, must not displace this one.
    """
    up_to = [each for each in checkpoints(newest.parent) if each.name <= newest.name]
    for old in up_to[keep:]:
        old.unlink(missing_ok=True)


def step_of(path: str | Path) -> int:
    """The optimiser step of a checkpoint that ``checkpoints`` listed."""
    match = _NAME.fullmatch(Path(path).name)
    assert match is not None, "only checkpoints are asked"
    return int(match[1])
