"""What a logger is, and what it is told of a run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinyvit_kd.config.logging import LoggingConfig


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
