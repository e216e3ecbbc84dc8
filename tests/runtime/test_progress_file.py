"""progress.json is whole at any time, tells what is known, and costs a job nothing."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.processes import wait_until
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime import progress_file
from tinyvit_kd.runtime.pace import Pace
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.progress_file import ProgressFile
from tinyvit_kd.runtime.signals import Preempted

FIELDS = (
    *("format", "stage", "state", "started", "updated", "done", "total", "unit", "rate", "seconds_left", "loss"),
    *("epoch", "data_wait", "host", "pid", "world_size", "message"),
)


def read(path: Path) -> dict[str, Any]:
    found = json.loads(path.read_bytes())
    assert isinstance(found, dict)
    return found


def says(path: Path, **values: Any) -> bool:
    return path.is_file() and {name: read(path).get(name) for name in values} == values


def progress_of(total: int) -> Progress:
    progress = Progress("pretrain", "step", views_per_unit=8, world_size=2)
    progress.pace.expect(total)
    return progress


def test_it_follows_the_job_and_says_at_once_that_the_state_has_changed(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    with ProgressFile(path, progress_of(10), every=3600) as progress:
        wait_until(lambda: says(path, state="starting", done=0, total=10, rate=None, seconds_left=None), "no first")
        progress.pace.made(4, 2.0)
        progress.done, progress.loss, progress.data_wait, progress.epoch = 4, 0.123456789, 0.25, 0.4
        progress.enter("running")
        wait_until(lambda: says(path, state="running", done=4, rate=2.0, seconds_left=3.0), "no second")
        found = read(path)
        assert set(FIELDS) <= set(found)
        assert (found["stage"], found["unit"], found["world_size"], found["pid"]) == (
            "pretrain",
            "step",
            2,
            os.getpid(),
        )
        assert (found["loss"], found["data_wait"], found["epoch"]) == (0.123457, 0.25, 0.4)
        assert found["started"] <= found["advanced"] <= found["updated"] <= time.time()
        progress.enter("finished", "top-1 62.00 %")
    assert says(path, state="finished", message="top-1 62.00 %", seconds_left=0.0)
    assert list(tmp_path.iterdir()) == [path]


def test_it_is_written_again_and_again_and_shows_a_job_that_stands_still(tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    with ProgressFile(path, progress_of(10), every=0.01) as progress:
        progress.done = 5
        wait_until(lambda: says(path, done=5), "not written")
        first = read(path)
        wait_until(lambda: read(path)["updated"] > first["updated"] + 0.05, "not written again")
        assert read(path)["advanced"] == first["advanced"]


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [
        (Preempted("stopped at step 5"), "stopped", "stopped at step 5"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
        (ConfigError("it is wrong", fix="mend it"), "failed", "it is wrong. To do: mend it."),
        (MemoryError(), "failed", "not enough memory"),
        (ValueError("first line\nsecond"), "failed", "first line"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_it_says_how_the_job_ended(error: BaseException, state: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    progress = progress_of(10)
    progress.done = 5
    with pytest.raises(type(error)), ProgressFile(path, progress):
        raise error
    assert says(path, state=state, message=message, done=5, seconds_left=None)


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    with ProgressFile(tmp_path / "progress.json", Progress(pace=Pace({"evaluation": float("inf")}))) as progress:
        progress.loss = float("nan")
    found = read(tmp_path / "progress.json")
    assert found["loss"] is None
    assert found["pause_seconds"] == {"evaluation": None}


def test_a_disk_that_refuses_costs_the_file_alone_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def refuse(_path: Path, value: dict[str, Any]) -> None:
        tries.append(value)
        raise OSError(28, "No space left on device")

    with ProgressFile(tmp_path / "absent" / "progress.json", progress_of(3), every=0.01):
        pass
    assert not (tmp_path / "absent").exists(), "its folder is made by whoever owns it"
    with monkeypatch.context() as full:
        full.setattr(progress_file, "write_json", refuse)
        with ProgressFile(tmp_path / "progress.json", progress_of(3), every=0.01):
            wait_until(lambda: len(tries) > 2, "not tried again")
    assert not list(tmp_path.iterdir())


def test_a_disk_that_hangs_keeps_no_job_from_ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(progress_file, "write_json", lambda _path, _value: answers.wait(60))
    monkeypatch.setattr(progress_file, "_LAST_WRITE", 0.1)
    begin = time.monotonic()
    with ProgressFile(tmp_path / "progress.json", progress_of(3)) as progress:
        progress.enter("running")
    assert time.monotonic() - begin < 5
    answers.set()


def test_a_killed_job_leaves_its_last_words_and_the_next_start_cleans_up_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a [1].progress.json"
    (tmp_path / f".{path.name}.00ff00ff.partial").write_text("half")
    (tmp_path / ".other.progress.json.00ff00ff.partial").write_text("another's")
    with ProgressFile(path, progress_of(3)):
        pass
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        ".other.progress.json.00ff00ff.partial",
        path.name,
    ]


def test_other_ranks_write_nothing() -> None:
    with ProgressFile(None, progress_of(3)) as progress:
        progress.enter("running")


def test_a_bar_tells_how_far_how_long_and_how_fast() -> None:
    progress = progress_of(1200)
    assert progress.figures("image") == "0/1,200 steps"
    progress.pace.made(10, 5.0)
    progress.done, progress.loss, progress.data_wait = 200, 2.34567, 0.031
    assert progress.figures("image") == (
        "200/1,200 steps, 8 min 20 s left, 16 images/s, waiting for data 3%, loss 2.3457"
    )
