"""Where the numbers of a run are logged: each logger appends the same values to its own files in the run folder.

To add one, write a ``MetricLogger`` that takes the run folder, and list it in ``LOGGERS``.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyvit_kd.runtime.distributed import Job

METRICS = "metrics.jsonl"


class MetricLogger(ABC):
    """Logs scalars by kind (train, eval), name and optimiser step."""

    @abstractmethod
    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Log the values of one kind at an optimiser step."""

    @abstractmethod
    def close(self) -> None:
        """Flush and close the files."""


class JsonLines(MetricLogger):
    """One JSON object per line in ``metrics.jsonl``, flushed at once."""

    def __init__(self, folder: Path) -> None:
        self._file = (folder / METRICS).open("a", encoding="utf-8")

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Append a line: kind, step, time (Unix time in seconds) and the values."""
        self._file.write(json.dumps({"kind": kind, "step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class TensorBoard(MetricLogger):
    """Scalars ``<kind>/<name>`` in the folder ``tensorboard``."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and only rank 0 needs it

        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each scalar's curve."""
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


LOGGERS: tuple[Callable[[Path], MetricLogger], ...] = (JsonLines, TensorBoard)
"""All loggers of a run. Each is called with the run folder, which exists."""


class MetricsWriter:
    """Writes to all ``LOGGERS`` on rank 0, and to none on other ranks."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._loggers: list[MetricLogger] = []
        if job.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            self._loggers = [logger(folder) for logger in LOGGERS]

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Log ``values`` of one kind (train, eval) at an optimiser step."""
        for logger in self._loggers:
            logger.write(kind, step, values)

    def close(self) -> None:
        """Close all loggers."""
        for logger in self._loggers:
            logger.close()
