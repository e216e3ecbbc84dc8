"""A bar is shown in a terminal that can show one, and nowhere else."""

from __future__ import annotations

import io
import sys

import pytest

from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.lines import quiet_lines
from tinyvit_kd.runtime.log import progress_bar
from tinyvit_kd.runtime.progress import Progress


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Standard error as a terminal. No fixture: pytest captures anew when a test begins."""
    shown = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("TINYVIT_KD_QUIET", raising=False)
    monkeypatch.setattr(sys, "stderr", shown)
    return shown


def run_a_bar() -> None:
    progress = Progress(views_per_unit=8)
    progress.pace.expect(10)
    with progress_bar(solo_job(), 10, "step", label="train", about=lambda: progress.figures("image")) as bar:
        progress.pace.made(1, 2.0)
        progress.done, progress.loss = 4, 1.5
        bar.update(4)
        bar.refresh()


def test_it_tells_what_the_job_knows_without_a_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    run_a_bar()
    assert "train:  40%" in terminal.getvalue()
    assert "| 4/10 steps, 12 s left, 4 images/s, loss 1.5000" in terminal.getvalue()
    assert "\033[3" not in terminal.getvalue()


def test_there_is_none_in_quiet_mode_or_in_a_terminal_that_cannot_move_its_cursor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = a_terminal(monkeypatch)
    with quiet_lines():
        run_a_bar()
    monkeypatch.setenv("TERM", "dumb")
    run_a_bar()
    assert terminal.getvalue() == ""


def test_a_bar_without_words_of_its_own_tells_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = a_terminal(monkeypatch)
    with progress_bar(None, 10, "shard", label="check") as bar:
        bar.update(5)
        bar.refresh()
    assert "check:  50%" in terminal.getvalue()
    assert "5/10" in terminal.getvalue()
