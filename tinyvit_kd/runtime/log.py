"""What a user sees on the terminal: lines and a progress bar, from rank 0 unless said otherwise."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Hashable
from contextlib import ExitStack
from functools import lru_cache
from typing import Any, Protocol

from tqdm import TqdmMonitorWarning, tqdm

from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.lines import is_quiet, own_rank, print_line


class Ranked(Protocol):
    """A process of a job, such as a ``Job``, whose file imports torch, which not every command that prints needs."""

    @property
    def rank(self) -> int:
        """Its number."""

    @property
    def is_main(self) -> bool:
        """Whether that is 0."""


def say(job: Ranked, text: str) -> None:
    """Print one line from rank 0, above the progress bar if there is one."""
    if job.is_main:
        say_any_rank(job, text)


def say_any_rank(job: Ranked, text: str) -> None:
    """Print one line from any rank; ranks other than 0 are named in it."""
    print_line(text, job.rank)


def note(text: str) -> None:
    """As ``say``, where no ``Job`` is at hand."""
    if own_rank() == 0:
        print_line(text)


def warn(text: str) -> None:
    """Print one line where no ``Job`` is at hand, as in a thread; ranks other than 0 are named in it."""
    print_line(text, own_rank())


def warn_once(about: Hashable, text: str) -> None:
    """As ``warn``, but only for the first line about ``about`` in this process."""
    if about not in _warned():
        _warned().add(about)
        warn(text)


@lru_cache(maxsize=1)
def _warned() -> set[Hashable]:
    return set()


class ProgressBar(tqdm):  # type: ignore[type-arg]
    """A bar in a terminal; elsewhere, lines from time to time (see ``runtime.heartbeat``).

    Args:
        about: what stands behind the bar, in place of tqdm's own figures.
    """

    def __init__(
        self,
        *,
        shown: bool,
        label: str,
        total: int,
        unit: str,
        initial: int,
        speaks: bool,
        about: Callable[[], str] | None = None,
    ) -> None:
        self._about = about
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TqdmMonitorWarning)  # no thread to be had: the bar does without
            super().__init__(
                total=total,
                initial=initial,
                unit=unit,
                desc=label,
                disable=not shown,
                dynamic_ncols=True,
                smoothing=0.1,
                bar_format=None if about is None else "{l_bar}{bar}| {about}",
            )
        self.n, self.total = initial, total
        self._contexts = ExitStack()
        self._beat = self._contexts.enter_context(saying(label or "progress", total, unit, speaks=speaks))
        self._beat.done = self._beat.first = initial

    @property
    def format_dict(self) -> dict[str, Any]:
        """What the bar is made of."""
        return {**super().format_dict, "about": self._about() if self._about is not None else ""}

    def update(self, n: float | None = 1) -> bool | None:
        """Note that so much more is done."""
        shown = super().update(n)
        if self.disable:
            self.n += n or 0
        self._beat.at(int(self.n), int(self.total or 0))
        return shown

    def close(self) -> None:
        """End the bar and the lines."""
        super().close()
        if "_contexts" in vars(self):  # not of a bar that could not be made
            self._contexts.close()


def progress_bar(
    job: Ranked | None,
    total: int,
    unit: str,
    *,
    initial: int = 0,
    label: str = "",
    about: Callable[[], str] | None = None,
) -> Any:
    """Rate and time left, on rank 0: by a bar in a terminal, elsewhere by lines where nothing else is printed.

    Args:
        job: None in a command that is no run of several processes.
        about: what stands behind the bar; None: what is done, rate and time left.
    """
    is_main = job is None or job.is_main
    shown = is_main and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and not is_quiet()
    return ProgressBar(shown=shown, label=label, total=total, unit=unit, initial=initial, speaks=not shown, about=about)
