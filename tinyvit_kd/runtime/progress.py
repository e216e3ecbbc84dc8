"""How far a job is: what its bar, its lines and ``progress.json`` tell."""

from __future__ import annotations

import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from tinyvit_kd.runtime.pace import Pace
from tinyvit_kd.runtime.wording import counted, duration, plural

FORMAT = 1
State = Literal["starting", "running", "evaluating", "stopped", "failed", "finished"]


@dataclass
class Progress:
    """How far a job is. Whoever does the work sets the attributes, at no cost; a ``ProgressFile`` writes them.

    Attributes:
        stage: pretrain, finetune or dump-logits.
        unit: of ``done`` and ``total``: step or view.
        views_per_unit: views in a unit: a step's global batch.
        done: units of the whole job, in earlier starts, too.
        pace: the rate, and the time that is left.
        loss: as it was logged last.
        epoch: epochs that are done, with fractions; None where there are none.
        data_wait: share of the time that the last logged steps waited for data.
        message: what is being done, or what ended the job.
        started: this start of the job, Unix seconds.
        on_change: called whenever the state has changed.
    """

    stage: str = ""
    unit: Literal["step", "view"] = "step"
    views_per_unit: int = 1
    world_size: int = 1
    state: State = "starting"
    done: int = 0
    pace: Pace = field(default_factory=Pace)
    loss: float | None = None
    epoch: float | None = None
    data_wait: float | None = None
    message: str | None = None
    started: float = field(default_factory=time.time)
    on_change: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        self._seen: tuple[int, State, float] = (self.done, self.state, self.started)

    def enter(self, state: State, message: str | None = None) -> None:
        """Change the state, which is written at once."""
        self.state, self.message = state, message
        if self.on_change is not None:
            self.on_change()

    def _advanced(self, now: float) -> float:
        """When ``done`` or the state was first seen as it is, Unix seconds: a job may live and yet stand still."""
        if self._seen[:2] != (self.done, self.state):
            self._seen = self.done, self.state, now
        return self._seen[2]

    def as_dict(self, now: float) -> dict[str, Any]:
        """What the file holds: times in Unix seconds; what is not known, or no number, is None."""
        is_over = self.state in ("stopped", "failed", "finished")
        left = None if is_over else self.pace.seconds_left(self.done)
        return {
            "format": FORMAT,
            "stage": self.stage,
            "state": self.state,
            "started": round(self.started, 3),
            "updated": round(now, 3),
            "advanced": round(self._advanced(now), 3),
            "done": self.done,
            "total": self.pace.total,
            "unit": self.unit,
            "views_per_unit": self.views_per_unit,
            "rate": _number(self.pace.rate),
            "seconds_left": 0.0 if self.state == "finished" else _number(left),
            "pause_seconds": {kind: _number(seconds) for kind, seconds in dict(self.pace.pause_seconds).items()},
            "loss": _number(self.loss),
            "epoch": _number(self.epoch),
            "data_wait": _number(self.data_wait),
            "host": platform.node(),
            "pid": os.getpid(),
            "world_size": self.world_size,
            "message": self.message,
        }

    def figures(self, noun: str) -> str:
        """What stands behind a bar: how far, time left to the end of the job, rate, share of waiting, and the loss.

        Args:
            noun: what a view is called: image, or view.
        """
        left, rate = self.pace.seconds_left(self.done), self.pace.rate
        parts = [f"{self.done:,}/{counted(self.pace.total or 0, self.unit)}"]
        if left:
            parts.append(f"{duration(left)} left")
        if rate is not None:
            parts.append(f"{rate * self.views_per_unit:,.0f} {plural(noun)}/s")
        if self.data_wait is not None:
            parts.append(f"waiting for data {self.data_wait:.0%}")
        if self.loss is not None:
            parts.append(f"loss {self.loss:.4f}")
        return ", ".join(parts)


def _number(value: float | None) -> float | None:
    """Six significant digits; None for what is no number."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")
