"""Which loggers a run has, and the writer that gives each of them the same values, from rank 0.

To add one, write a ``MetricLogger`` that takes a ``LoggedRun``, and list it in ``LOGGERS``. A logger that fails costs
its own lines, never the run.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tinyvit_kd.config.logging import LoggingConfig
from tinyvit_kd.errors import ConfigError, said_by
from tinyvit_kd.runtime.log import warn_once
from tinyvit_kd.runtime.loggers.base import LoggedRun, MetricLogger
from tinyvit_kd.runtime.loggers.own_files import METRICS, JsonLines, TensorBoard

if TYPE_CHECKING:
    from tinyvit_kd.runtime.distributed import Job

PACKAGES = ("wandb", "mlflow")  # loggers that need a package, which has the name of their field in the recipe


def _wandb(run: LoggedRun) -> MetricLogger:
    from tinyvit_kd.runtime.loggers.weights_and_biases import open_wandb

    return open_wandb(run)


def _mlflow(run: LoggedRun) -> MetricLogger:
    from tinyvit_kd.runtime.loggers.mlflow_tracking import open_mlflow

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
    for name in PACKAGES:
        if getattr(config, name) is not None and importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"the package {name} is not installed",
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
        try:
            self._open(run)
        except BaseException:
            self.close(succeeded=False)
            raise

    def _open(self, run: LoggedRun) -> None:
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
