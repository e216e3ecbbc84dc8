"""Whoever waits looks less and less often, says what is known, and gives up when told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from tinyvit_kd.errors import StorageError, StorageUnavailableError, StoreError, StoreUnreadableError
from tinyvit_kd.runs.dump_signs import told_of_dumps
from tinyvit_kd.runs.waiting import LAST_PAUSE, QUIET, Sight, Waiter
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.signals import AgreedStop, StopRequest


class Clock:
    """A clock that goes on when somebody sleeps, or looks."""

    def __init__(self) -> None:
        self.now = 0.0
        self.looks: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def look(self, sights: Iterator[Sight | None], takes: float = 0.0) -> Callable[[], Sight | None]:
        def look() -> Sight | None:
            self.looks.append(self.now)
            self.now += takes
            return next(sights)

        return look


def sight(present: int) -> Sight:
    return Sight("view 3 of a store", present, 9, "block", life=present)


def waiter(clock: Clock, timeout: float | None = None, **others: object) -> Waiter:
    return Waiter(solo_job(), timeout, (), clock=clock, sleep=clock.sleep, **others)  # type: ignore[arg-type]


def forever(present: int = 0) -> Iterator[Sight]:
    while True:
        yield sight(present)


def test_nothing_is_said_where_all_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    waiter(clock).until_ready(clock.look(iter([None])))
    assert (clock.looks, clock.now, capsys.readouterr().err) == ([0.0], 0.0, "")


def test_looks_become_rarer_up_to_a_minute() -> None:
    clock = Clock()
    waiter(clock).until_ready(clock.look(iter([sight(each) for each in range(30)] + [None])))
    pauses = [later - earlier for earlier, later in zip(clock.looks, clock.looks[1:], strict=False)]
    assert pauses[0] == pytest.approx(1, abs=0.1)
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LAST_PAUSE, abs=0.1)


def test_a_storage_that_takes_long_to_list_is_looked_at_for_a_twentieth_of_the_time_at_most() -> None:
    clock = Clock()
    waiter(clock).until_ready(clock.look(iter([*(sight(each) for each in range(5)), None]), takes=30.0))
    assert all(b - a >= 20 * 30 for a, b in zip(clock.looks, clock.looks[1:], strict=False))


@pytest.mark.parametrize("grows", [True, False])
def test_it_gives_up_where_nothing_new_comes_and_only_there(grows: bool) -> None:
    clock = Clock()
    sights = (sight(min(each, 500)) for each in range(10_000)) if grows else forever()
    with pytest.raises(AgreedStop, match="gave up waiting for view 3 of a store") as caught:
        waiter(clock, timeout=1000).until_ready(clock.look(iter(sights)))
    assert "store.follow_timeout" in caught.value.message
    assert (clock.now > 20_000) == grows


def test_it_waits_for_ever_without_a_limit(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    waiter(clock).until_ready(clock.look(iter([*(sight(0) for _ in range(2000)), None])))
    assert clock.now > 100_000
    assert 5 < capsys.readouterr().err.count("nothing new for") < 15  # each time after twice as long


def test_a_disk_that_is_away_for_a_while_is_told_and_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    answers = iter([OSError(5, "Input/output error"), sight(2), OSError(116, "Stale file handle"), None])

    def look() -> Sight | None:
        answer = next(answers)
        if isinstance(answer, OSError):
            raise answer
        return answer

    waiter(clock).until_ready(look)
    said = capsys.readouterr().err
    assert said.index("Input/output error") < said.index("2 of 9 blocks are there") < said.index("Stale file handle")


def test_what_is_waited_for_is_in_the_progress_and_its_time_in_no_rate() -> None:
    clock, progress = Clock(), Progress("pretrain", state="running")
    progress.pace._clock = clock
    seen: list[str | None] = []

    def note() -> None:
        seen.append(progress.message)

    progress.on_change = note
    waiter(clock, progress=progress).until_ready(clock.look(iter([sight(1), sight(2), None])))
    assert seen == [
        "waiting for view 3 of a store: 1 of 9 blocks are there",
        "waiting for view 3 of a store: 2 of 9 blocks are there",
        None,
    ]
    progress.pace.made(10, clock.now + 5.0)
    assert progress.pace.rate == pytest.approx(2.0)


def test_a_request_to_stop_ends_it() -> None:
    clock, stop = Clock(), StopRequest()

    def look() -> Sight | None:
        if clock.now > 10:
            stop._receive(15, None)
        return sight(1)

    with pytest.raises(AgreedStop, match="stopped by a signal while waiting for view 3"):
        waiter(clock, stop=stop).until_ready(look)
    assert clock.now < 30


def test_dumps_are_told_of_by_what_they_left_beside_the_store(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    assert told_of_dumps([store, "s3://bucket/store"]) == ""
    files = {
        "store.progress.json": {"state": "failed", "message": "no space\x1b[2J"},
        "store.part-1-of-3.progress.json": {"state": "running", "updated": 0},
        "store.part-2-of-3.progress.json": {"state": "finished"},
        "store.part-3-of-3.progress.json": {"state": "stopped"},
        "other.progress.json": {"state": "failed"},
    }
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    told = told_of_dumps([store])
    assert "part 1/3 of its dump has shown no sign of life for" in told
    assert (
        "part 2/3 of its dump has finished; part 3/3 of its dump was stopped; its dump has failed: no space\\x1b"
        in told
    )
    assert "other" not in told


def test_what_is_known_of_a_silent_dump_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "store.progress.json").write_text(json.dumps({"state": "failed", "message": "the disk is full"}))
    clock = Clock()
    with pytest.raises(AgreedStop):
        Waiter(solo_job(), 2 * QUIET, (str(tmp_path / "store"),), clock=clock, sleep=clock.sleep).until_ready(
            clock.look(forever())
        )
    assert "nothing new for 5 min" in (said := capsys.readouterr().err)
    assert "its dump has failed: the disk is full" in said


@pytest.mark.parametrize(
    ("error", "is_waited_for"),
    [
        (OSError(5, "Input/output error"), True),
        (StoreUnreadableError("a block's folder cannot be listed"), True),
        (StorageUnavailableError("the service is overloaded"), True),
        (StorageError("the credentials are refused"), False),
        (StoreError("the manifest is damaged"), False),
    ],
    ids=lambda value: str(value)[:30],
)
def test_only_what_may_pass_is_waited_for(error: Exception, is_waited_for: bool) -> None:
    clock, answers = Clock(), iter([error, None])

    def look() -> Sight | None:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with nullcontext() if is_waited_for else pytest.raises(type(error)):
        waiter(clock).until_ready(look)
