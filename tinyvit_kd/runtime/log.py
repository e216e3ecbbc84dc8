"""What a user sees on the terminal: lines and a progress bar, from rank 0 unless said otherwise."""

from __future__ import annotations

import os
import sys
from collections.abc import Hashable
from functools import lru_cache
from typing import TYPE_CHECKING, Never

from tqdm import tqdm

if TYPE_CHECKING:
    from tinyvit_kd.runtime.distributed import Job  # imports torch, which not every command that prints needs


def say(job: Job, text: str) -> None:
    """Print one line from rank 0, above the progress bar if there is one."""
    if job.is_main:
        say_any_rank(job, text)


def say_any_rank(job: Job, text: str) -> None:
    """Print one line from any rank; ranks other than 0 are named in it."""
    _print(text, job.rank)


def warn(text: str) -> None:
    """Print one line where no ``Job`` is at hand, as in a thread; ranks other than 0 are named in it."""
    _print(text, int(os.environ.get("RANK", 0)))


def warn_once(about: Hashable, text: str) -> None:
    """As ``warn``, but only for the first line about ``about`` in this process."""
    if about not in _warned():
        _warned().add(about)
        warn(text)


@lru_cache(maxsize=1)
def _warned() -> set[Hashable]:
    return set()


def _print(text: str, rank: int) -> None:
    tqdm.write(f"[rank {rank}] {text}" if rank else text, file=sys.stderr)
    sys.stderr.flush()


def progress_bar(job: Job | None, total: int, unit: str, *, initial: int = 0, label: str = "") -> tqdm[Never]:
    """A progress bar with rate and ETA, on rank 0 and only in a terminal; elsewhere it shows nothing.

    Args:
        job: None in a command that is no run of several processes.
    """
    hidden = not ((job is None or job.is_main) and sys.stderr.isatty())
    return tqdm(total=total, initial=initial, unit=unit, desc=label, disable=hidden, dynamic_ncols=True, smoothing=0.1)
