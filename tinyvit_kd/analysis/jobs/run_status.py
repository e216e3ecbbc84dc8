"""How far a training run is, from its folder, at any time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tinyvit_kd.analysis.jobs.liveness import JobFiles, Life, as_number, read_life
from tinyvit_kd.analysis.jobs.run_folder import Line, RunFolder, read_run
from tinyvit_kd.errors import ConfigError, said_by
from tinyvit_kd.runs.checkpoint_uploads import remote_checkpoints, remote_name
from tinyvit_kd.runs.run_files import ATTEMPTS, LOG, SUMMARY
from tinyvit_kd.runs.uploads import EVERY
from tinyvit_kd.runtime.files import modified
from tinyvit_kd.runtime.loggers.own_files import METRICS
from tinyvit_kd.runtime.progress_file import PROGRESS
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.training.checkpoint_files import CHECKPOINTS, checkpoints, step_of


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a run: its step, size in bytes, and age in seconds."""

    step: int
    bytes: int
    age: float


@dataclass(frozen=True)
class RunStatus:
    """How far a run is. What is not known is None.

    Attributes:
        path: of its folder.
        stage: pretrain or finetune.
        state: see ``liveness.Life``.
        message: what it is doing, or what ended it.
        age: seconds since its last sign of life.
        stands_still: seconds for which an active run has been alive without a new step.
        done, total: optimiser steps.
        rate: images per second, over all processes.
        seconds_left: to the end of the run, evaluations included.
        seconds: that it worked, all attempts together.
        attempts: how often it was started.
        epoch: epochs that are done, with fractions.
        step, loss, data_wait: of its last line of training; the share of time that steps waited for data.
        evaluation: the last one: step and figures by name.
        checkpoints: the newest first.
        results: figures of the finished run.
        host, process, world_size: where it runs.
        notes: what is wrong with its files, or with clocks.
    """

    path: str
    kind: str = field(default="run", init=False)
    stage: str | None = None
    state: str = "unknown"
    message: str | None = None
    age: float | None = None
    stands_still: float | None = None
    done: int | None = None
    total: int | None = None
    rate: float | None = None
    seconds_left: float | None = None
    seconds: float | None = None
    attempts: int | None = None
    epoch: float | None = None
    step: int | None = None
    loss: float | None = None
    data_wait: float | None = None
    evaluation: dict[str, float] | None = None
    checkpoints: tuple[Checkpoint, ...] = ()
    results: dict[str, Any] | None = None
    host: str | None = None
    process: int | None = None
    world_size: int | None = None
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for machines."""
        return asdict(self)


def run_status(location: str | Path, now: float) -> RunStatus:
    """Look at a run folder, at a path or a URL.

    Args:
        now: Unix time, seconds.
    """
    try:
        run = read_run(location)
        found = tuple(_checkpoints(run, now))
    except (ConfigError, OSError) as error:  # it vanished, or the system or a storage refuses
        return RunStatus(str(location), message=said_by(error) if isinstance(error, OSError) else str(error))
    path = run.path
    delay = 0.0 if run.url is None else EVERY + 30
    files = JobFiles(path / PROGRESS, path / ATTEMPTS, path / LOG, (path / METRICS,), delay)
    life = read_life(files, now, modified(path / SUMMARY) if run.summary is not None else None)
    last = (run.of_kind("train") or [{}])[-1]
    done, total = _steps(run, life, last)
    return RunStatus(
        path=run.where,
        stage=_stage(run, life),
        state=life.state,
        message=life.message,
        age=life.age,
        stands_still=life.stands_still if life.is_active else None,
        done=done,
        total=total,
        rate=_rate(run, life, last),
        seconds_left=_seconds_left(life, last, done, total),
        seconds=_seconds(run, life),
        attempts=len(life.attempts) or None,
        epoch=life.number("epoch"),
        step=last.get("step"),
        loss=as_number(last.get("loss")),
        data_wait=as_number(last.get("data_wait")),
        evaluation=_evaluation(run),
        checkpoints=found,
        results=run.summary if life.state == "finished" else None,
        host=_text(life.progress.get("host")) or (_text(life.attempts[-1].host) if life.attempts else None),
        process=_whole(life.progress.get("pid")),
        world_size=_whole(life.progress.get("world_size")),
        notes=tuple(_notes(run, life, path)),
    )


def _stage(run: RunFolder, life: Life) -> str | None:
    return _text((run.recipe or {}).get("stage")) or _text(life.progress.get("stage"))


def _steps(run: RunFolder, life: Life, last: Line) -> tuple[int | None, int | None]:
    """Steps that are done, and all of them."""
    if life.state == "finished" and run.summary is not None:
        done = _whole(run.summary.get("step"))
        return done, done
    done, total = _whole(life.progress.get("done")), _whole(life.progress.get("total"))
    if (as_number(last.get("time")) or 0) > (life.number("updated") or math.inf):  # both by the clock of the run
        done = last["step"]
    if not life.progress:
        in_log = life.log_steps or (None, None)
        done, total = last.get("step", in_log[0]), in_log[1]
    return done, total


def _rate(run: RunFolder, life: Life, last: Line) -> float | None:
    if life.state == "finished" and run.summary is not None:
        return as_number(run.summary.get("images_per_second"))
    rate, views = life.number("rate"), life.number("views_per_unit")
    if rate is not None and views is not None:
        return rate * views
    schedule = (run.recipe or {}).get("schedule")
    batch = as_number(schedule.get("global_batch_size")) if isinstance(schedule, dict) else None
    seconds = as_number(last.get("step_seconds"))
    return batch / seconds if batch and seconds else None


def _seconds_left(life: Life, last: Line, done: int | None, total: int | None) -> float | None:
    """By the run itself or, of an older one, for its steps alone."""
    if life.progress or not life.is_active:
        return life.seconds_left
    seconds = as_number(last.get("step_seconds"))
    return seconds * max(0, total - done) if seconds and done is not None and total is not None else None


def _seconds(run: RunFolder, life: Life) -> float | None:
    kept = as_number((run.results or {}).get("seconds")) if life.state == "finished" else None
    return kept if kept is not None else life.seconds


def _evaluation(run: RunFolder) -> dict[str, float] | None:
    lines = run.of_kind("eval")
    if not lines:
        return None
    numbers = {name: as_number(value) for name, value in lines[-1].items() if name != "time"}
    return {name: value for name, value in numbers.items() if value is not None}


def _checkpoints(run: RunFolder, now: float) -> Iterator[Checkpoint]:
    if run.url is not None:
        storage = open_storage(run.url)
        for name in remote_checkpoints(storage):
            info = storage.info(remote_name(name))
            if info is not None:
                yield Checkpoint(step_of(name), info.size, max(0.0, now - info.modified_ns / 1e9))
        return
    try:
        paths = checkpoints(run.path / CHECKPOINTS)
    except OSError:
        return
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # it was removed meanwhile
            continue
        yield Checkpoint(step_of(path), status.st_size, max(0.0, now - status.st_mtime))


def _notes(run: RunFolder, life: Life, path: Path) -> Iterator[str]:
    if run.recipe is None:
        yield "its recipe cannot be read"
    if run.damaged_lines > 1 or (run.damaged_lines and not life.is_active):
        yield f"{counted(run.damaged_lines, 'line')} of {METRICS} cannot be read"
    if run.summary is None and (path / SUMMARY).exists():
        yield f"{SUMMARY} cannot be read: the same command makes it again"
    if (path / PROGRESS).exists() and not life.progress:
        yield f"{PROGRESS} cannot be read"
    if life.clock_ahead:
        yield f"the clock of its disk is {life.clock_ahead:,.0f} s ahead of this machine's"


def _whole(value: Any) -> int | None:
    number = as_number(value)
    return None if number is None else int(number)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
