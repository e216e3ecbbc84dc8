"""A logger that a server may keep waiting: it works in a thread of its own, so that no step waits for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from tinyvit_kd.errors import said_by
from tinyvit_kd.runtime.log import warn, warn_once
from tinyvit_kd.runtime.loggers.base import MetricLogger
from tinyvit_kd.runtime.wording import counted

PAUSES = (1.0, 10.0, 60.0, 300.0)  # seconds between the tries to log a line
CLOSE_WITHIN = 60.0  # seconds that a finished run waits for what has not been logged yet
STOP_WITHIN = 10.0  # seconds that a stopped one does: a scheduler will not wait long
MAX_WAITING = 20_000  # lines
_LAST_PAUSE = 1.0  # seconds between tries once the run has ended


class _Line(NamedTuple):
    kind: str
    step: int
    values: Mapping[str, float]


class Background(MetricLogger):
    """Hands lines to another logger in a thread. A line that fails is tried again, and then left out, with a warning.

    Args:
        name: of the logger, for messages.
        logger: what is written to, or what opens it, again and again until it succeeds.
        pauses: seconds between the tries to log a line.
    """

    def __init__(
        self, name: str, logger: MetricLogger | Callable[[], MetricLogger], pauses: Sequence[float] = PAUSES
    ) -> None:
        self.name, self.lost = name, 0
        self._logger = logger
        self._pauses = pauses
        self._lines: queue.Queue[_Line | None] = queue.Queue(MAX_WAITING)
        self._closing = threading.Event()
        self._succeeded = True
        self._thread = threading.Thread(target=self._work, name=f"logger {name}", daemon=True)
        self._thread.start()

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Note a line, to be logged soon."""
        try:
            self._lines.put_nowait(_Line(kind, step, dict(values)))
        except queue.Full:
            self.lost += 1

    def close(self, succeeded: bool = True) -> None:
        """Log what is waiting, but not for longer than a run should wait."""
        self._succeeded = succeeded
        self._closing.set()
        deadline = time.monotonic() + (CLOSE_WITHIN if succeeded else STOP_WITHIN)
        with suppress(queue.Full):
            self._lines.put(None, timeout=1)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        waiting = self._lines.qsize() if self._thread.is_alive() else 0  # the end among them, not the line in work
        if self.lost or waiting:
            left_out = counted(self.lost + waiting, "line")
            warn(f"{self.name} has not taken {left_out} of this run; metrics.jsonl has them all")

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            self._deliver(line)
        if isinstance(self._logger, MetricLogger):
            try:
                self._logger.close(self._succeeded)
            except Exception as error:
                self._complain(error)

    def _deliver(self, line: _Line) -> None:
        for pause in (*self._pauses, 0.0):
            try:
                if not isinstance(self._logger, MetricLogger):
                    self._logger = self._logger()
                self._logger.write(*line)
                return
            except Exception as error:
                self._complain(error)
                if self._closing.wait(pause):
                    time.sleep(min(pause, _LAST_PAUSE))  # close() says how long there still is
        self.lost += 1

    def _complain(self, error: Exception) -> None:
        text = f"{self.name} does not take the figures of this run ({said_by(error)}); the run goes on, and tries again"
        warn_once(("logger", self.name), text)
