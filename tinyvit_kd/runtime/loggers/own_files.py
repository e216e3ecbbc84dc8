"""Loggers that write files of their own, which need no server."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping

from tinyvit_kd.runtime.loggers.base import LoggedRun, MetricLogger

METRICS = "metrics.jsonl"


class JsonLines(MetricLogger):
    """One JSON object per line in ``metrics.jsonl``, flushed at once."""

    def __init__(self, run: LoggedRun) -> None:
        self._file = (run.folder / METRICS).open("a", encoding="utf-8")

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Append a line: kind, step, time (Unix time in seconds) and the values."""
        self._file.write(json.dumps({"kind": kind, "step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()

    def close(self, succeeded: bool = True) -> None:
        """Close the file."""
        del succeeded
        self._file.close()


class TensorBoard(MetricLogger):
    """Scalars ``<kind>/<name>`` in the folder ``tensorboard``."""

    def __init__(self, run: LoggedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import, and only rank 0 needs it

        self._writer = SummaryWriter(str(run.folder / "tensorboard"))

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each scalar's curve."""
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)

    def close(self, succeeded: bool = True) -> None:
        """Flush and close the event file."""
        del succeeded
        self._writer.close()
