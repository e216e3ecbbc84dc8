"""Where the numbers of a run are logged: each logger gets the same values, from rank 0.

To add one, write a ``MetricLogger`` that takes a ``LoggedRun``, and list it in ``LOGGERS``. A logger that fails costs
its own lines, never the run.
"""

from __future__ import annotations

import importlib.util
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tinyvit_kd.config.logging import LoggingConfig
from tinyvit_kd.errors import ConfigError, said_by
from tinyvit_kd.runtime.log import warn_once

if TYPE_CHECKING:
    from tinyvit_kd.runtime.distributed import Job

METRICS = "metrics.jsonl"
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}  # by logger: what it needs, under which name it is imported


@dataclass(frozen=True)
class LoggedRun:
    """What a logger is told of a run.

    Attributes:
        folder: the run folder, which exists.
        config: section ``logging`` of the recipe.
        about: what the run is, as nested plain values: its recipe, versions, machine.
    """

    folder: Path
    config: LoggingConfig = field(default_factory=LoggingConfig)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.folder.resolve().name


class MetricLogger(ABC):
    """Logs scalars by kind (train, eval), name and optimiser step. Its steps may be repeated after a kill."""

    @abstractmethod
    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Log the values of one kind at an optimiser step."""

    @abstractmethod
    def close(self, succeeded: bool = True) -> None:
        """Flush and close the files; ``succeeded`` says whether the run came to its end."""


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


def _wandb(run: LoggedRun) -> MetricLogger:
    from tinyvit_kd.runtime.wandb_logger import open_wandb

    return open_wandb(run)


def _mlflow(run: LoggedRun) -> MetricLogger:
    from tinyvit_kd.runtime.mlflow_logger import open_mlflow

    return open_mlflow(run)


LOGGERS: Mapping[str, Callable[[LoggedRun], MetricLogger]] = {
    METRICS: JsonLines,
    "tensorboard": TensorBoard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
"""All loggers of a run. One that section ``logging`` of a recipe has a field for is opened where that is given."""


def require_loggers(config: LoggingConfig) -> None:
    """Check that the packages of a recipe's loggers are installed.

    Raises:
        ConfigError: one is not; it says how to install it.
    """
    for name, package in PACKAGES.items():
        if getattr(config, name) is not None and importlib.util.find_spec(package) is None:
            raise ConfigError(
                f"the package {package} is not installed",
                where=f"logging.{name}",
                fix=f"pip install 'tinyvit_kd[{name}]', or leave logging.{name} out",
            )


class MetricsWriter(AbstractContextManager["MetricsWriter"]):
    """Writes to all loggers on rank 0, and to none on other ranks.

    Args:
        job: whose rank 0 writes; None: nobody does.
        folder: the run folder; it is made if it is missing.
        config: section ``logging`` of the recipe.
        about: what the run is (see ``LoggedRun``).

    Raises:
        ConfigError: a logger's settings are wrong.
    """

    def __init__(
        self,
        job: Job | None = None,
        folder: Path | None = None,
        config: LoggingConfig | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self._loggers: dict[str, MetricLogger] = {}
        if job is None or not job.is_main or folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        run = LoggedRun(folder, config or LoggingConfig(), about or {})
        for name, logger in LOGGERS.items():
            if getattr(run.config, name, True):
                self._loggers[name] = logger(run)

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Log ``values`` of one kind (train, eval) at an optimiser step."""
        for name, logger in self._loggers.items():
            try:
                logger.write(kind, step, values)
            except Exception as error:
                _warn(name, error)

    def close(self, succeeded: bool = True) -> None:
        """Close all loggers."""
        for name, logger in self._loggers.items():
            try:
                logger.close(succeeded)
            except Exception as error:
                _warn(name, error)
        self._loggers = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(succeeded=error is None)


def _warn(name: str, error: Exception) -> None:
    warn_once(("logger", name), f"{name} cannot be written ({said_by(error)}); the run goes on, and this is said once")
