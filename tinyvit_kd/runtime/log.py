"""What a user sees while it runs: lines, a bar, and the same numbers in files. Rank 0 speaks."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Never

from tqdm import tqdm

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from tinyvit_kd.runtime.distributed import Job  # imports torch, which not everything that speaks needs


def say(job: Job, text: str) -> None:
    """Print one line from rank 0, above the bar if there is one."""
    if job.is_main:
        say_any_rank(job, text)


def say_any_rank(job: Job, text: str) -> None:
    """Print one line from any rank, which it names."""
    _print(text, job.rank)


def warn(text: str) -> None:
    """Print one line from a thread or a place that knows no job; ranks but the first name themselves."""
    _print(text, int(os.environ.get("RANK", 0)))


def warn_once(about: Hashable, text: str) -> None:
    """As ``warn``, but only the first time in this process that there is something to say about ``about``."""
    if about not in _warned():
        _warned().add(about)
        warn(text)


@lru_cache(maxsize=1)
def _warned() -> set[Hashable]:
    return set()


def _print(text: str, rank: int) -> None:
    tqdm.write(f"[rank {rank}] {text}" if rank else text, file=sys.stderr)
    sys.stderr.flush()


def progress_bar(job: Job, total: int, unit: str, *, initial: int = 0, label: str = "") -> tqdm[Never]:
    """A bar on rank 0 of a terminal with rate and ETA; silent elsewhere."""
    hidden = not (job.is_main and sys.stderr.isatty())
    return tqdm(total=total, initial=initial, unit=unit, desc=label, disable=hidden, dynamic_ncols=True, smoothing=0.1)


class MetricsWriter:
    """Appends records to ``metrics.jsonl`` and the same scalars to TensorBoard, on rank 0."""

    def __init__(self, job: Job, folder: Path) -> None:
        self._file: IO[str] | None = None
        self._board: SummaryWriter | None = None
        if job.is_main:
            from torch.utils.tensorboard import SummaryWriter  # takes a second, and only rank 0 needs it

            folder.mkdir(parents=True, exist_ok=True)
            self._file = (folder / "metrics.jsonl").open("a", encoding="utf-8")
            self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, kind: str, step: int, values: dict[str, float]) -> None:
        """Record ``values`` of one kind (train, eval) at an optimiser step."""
        if self._file is None or self._board is None:
            return
        self._file.write(json.dumps({"kind": kind, "step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Flush and close both files."""
        if self._file is not None and self._board is not None:
            self._file.close()
            self._board.close()
