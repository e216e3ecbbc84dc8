"""Whatever takes long says something within 10 seconds, and whenever 30 have passed in silence."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tinyvit_kd.runtime import heartbeat
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.heartbeat import Beat, Pulse, saying
from tinyvit_kd.runtime.lines import print_line
from tinyvit_kd.runtime.log import progress_bar
from tinyvit_kd.runtime.watchdog import doing, watched
from tinyvit_kd.runtime.wording import counted, duration


class Clock:
    """A clock that is set by hand, and a terminal that notes when lines are printed."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.last = -float("inf")
        self.pulse = Pulse(lambda: self.now, lambda: self.last)

    def enter(self, what: str, total: int | None = None, unit: str = "", speaks: bool = True) -> Beat:
        beat = Beat(what, total, unit, self.now, speaks)
        self.pulse.enter(beat)
        return beat

    def lines(self, seconds: float) -> list[tuple[float, str]]:
        """What is said in the next seconds, with its time, as the thread would say it."""
        said = []
        end = self.now + seconds
        while self.now < end:
            self.now += 1
            if (line := self.pulse.line_if_due()) is not None:
                self.last = self.now
                said.append((self.now - 1000, line))
        return said


def test_the_first_line_comes_after_10_seconds_and_then_one_every_30() -> None:
    clock = Clock()
    clock.enter("reading")
    assert clock.lines(101) == [
        (10, "reading: running for 10 s"),
        (40, "reading: running for 40 s"),
        (70, "reading: running for 1 min 10 s"),
        (100, "reading: running for 1 min 40 s"),
    ]


def test_work_in_other_work_does_not_put_the_first_line_off_and_the_innermost_speaks() -> None:
    clock = Clock()
    clock.enter("all")
    assert clock.lines(8) == []
    inner = clock.enter("a part")
    assert clock.lines(5) == [(10, "a part: running for 2 s")]
    clock.pulse.leave(inner)
    assert clock.lines(30) == [(20, "all: running for 20 s")]
    clock.enter("short")
    assert clock.lines(8) == [(50, "short: running for 7 s")]
    clock.enter("another")
    assert clock.lines(13) == [(61, "another: running for 10 s")]


def test_other_lines_put_it_off() -> None:
    clock = Clock()
    clock.enter("train")
    for _ in range(5):
        clock.last = clock.now + 1
        assert clock.lines(10) == []
    clock.last = clock.now
    assert clock.lines(29) == [(clock.now - 1000 - 19, "train: running for 1 min")]
    for _ in range(5):
        clock.last = clock.now + 1
        assert clock.lines(29) == []
    assert len(clock.lines(10)) == 1


def test_the_line_tells_how_far_how_fast_and_how_long() -> None:
    clock = Clock()
    beat = clock.enter("indexing", 100, "shard")
    beat.at(20)
    ((_, line),) = clock.lines(10)
    assert line == "indexing: 20 of 100 shards, 2 shards/s, 40 s left"
    beat.at(100, 5000)
    ((_, line),) = clock.lines(30)
    assert line == "indexing: 100 of 5,000 shards, 2.5 shards/s, 32 min 40 s left"
    beat.at(90_100, 100_000)
    ((_, line),) = clock.lines(30)
    assert line == "indexing: 90,100 of 100,000 shards, 1,287 shards/s, 8 s left"
    clock = Clock()
    clock.enter("evaluation", 4, "batch")
    assert clock.lines(10) == [(10, "evaluation: 0 of 4 batches, after 10 s")]


def test_what_was_done_before_does_not_count_as_speed() -> None:
    clock = Clock()
    beat = clock.enter("train", 100, "step")
    beat.done = beat.first = 90
    beat.advance(5)
    assert clock.lines(10) == [(10, "train: 95 of 100 steps, 0.5 steps/s, 10 s left")]


def test_a_bar_in_a_terminal_speaks_for_itself_and_work_inside_it_does_not() -> None:
    clock = Clock()
    clock.enter("all")
    clock.enter("train", 100, "step", speaks=False)
    assert clock.lines(60) == []
    clock.enter("evaluation")
    assert len(clock.lines(2)) == 1


def test_nothing_is_said_when_nothing_is_done() -> None:
    clock = Clock()
    clock.pulse.leave(clock.enter("all"))
    assert clock.lines(60) == []


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines come after hundredths of seconds."""
    for name, seconds in (("FIRST_LINE", 0.05), ("NEXT_LINES", 0.05), ("_SLICE", 0.01)):
        monkeypatch.setattr(heartbeat, name, seconds)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.usefixtures("soon")
def test_a_thread_says_it_while_the_main_one_is_busy(capsys: pytest.CaptureFixture[str]) -> None:
    said = ""

    def heard(text: str) -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return text in said

    with saying("outer"), saying("inner", 10, "block") as beat:
        beat.advance(5)
        until(lambda: heard("inner: 5 of 10 blocks"))
        with watched(60):
            doing("reading a file")
            until(lambda: heard("(reading a file, for 0 s)"))
        with progress_bar(solo_job(), 40, "shard", initial=10, label="check") as bar:
            bar.update(10)
            assert (bar.n, bar.total) == (20, 40)
            until(lambda: heard("check: 20 of 40 shards"))


@pytest.mark.usefixtures("soon")
def test_a_process_that_is_forked_while_a_line_is_printed_can_print(tmp_path: Path) -> None:
    with saying("outer"):
        for number in range(20):
            child = os.fork()
            if child == 0:
                try:
                    sys.stderr = (tmp_path / f"{number}").open("w")
                    print_line("from the child")
                finally:
                    os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    assert {path.read_text() for path in tmp_path.iterdir()} == {"from the child\n"}


@pytest.mark.usefixtures("soon")
def test_every_command_says_that_it_is_running(
    tmp_path: Path, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(_path: str) -> tuple[str, dict[str, object]]:
        time.sleep(0.5)
        return "done", {}

    monkeypatch.setattr("tinyvit_kd.stages.store.info.info", slowly)
    code, out, err = command_line("store", "info", tmp_path)
    assert (code, out) == (0, "done\n")
    assert "store info: running for" in err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (45, "45 s"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (65_100, "18 h 5 min"),
        (187_199, "2 d 3 h"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_nouns_follow_their_number() -> None:
    assert [counted(1, "process"), counted(8, "process"), counted(2, "batch"), counted(1200, "view")] == [
        "1 process",
        "8 processes",
        "2 batches",
        "1,200 views",
    ]
