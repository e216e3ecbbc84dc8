"""What a job is doing follows from files that may be missing, damaged, old, or of another clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.analysis.job_folders import NOW, gone_process, progress, write
from tinyvit_kd.analysis.jobs.liveness import JobFiles, Life, read_life

HOUR = 3600.0


def life_in(folder: Path, finished_at: float | None = None) -> Life:
    files = JobFiles(
        folder / "progress.json", folder / "attempts.json", folder / "log.txt", (folder / "metrics.jsonl",)
    )
    return read_life(files, NOW, finished_at)


@pytest.mark.parametrize("state", ["starting", "running", "evaluating"])
def test_a_job_that_wrote_a_moment_ago_is_what_it_says(tmp_path: Path, state: str) -> None:
    write(tmp_path / "progress.json", progress(state))
    assert life_in(tmp_path).state == state


@pytest.mark.parametrize("state", ["starting", "running", "evaluating"])
def test_a_job_that_has_not_written_for_minutes_is_silent(tmp_path: Path, state: str) -> None:
    write(tmp_path / "progress.json", progress(state, age=200), age=200)
    life = life_in(tmp_path)
    assert (life.state, life.age) == ("silent", 200)
    assert life.seconds_left is None


def test_a_job_whose_process_is_gone_from_this_machine_was_killed(tmp_path: Path) -> None:
    write(tmp_path / "progress.json", progress(age=20, **gone_process()), age=20)
    assert life_in(tmp_path).state == "killed"


def test_a_process_that_is_not_seen_but_writes_is_in_another_container(tmp_path: Path) -> None:
    write(tmp_path / "progress.json", progress(**gone_process()))
    assert life_in(tmp_path).state == "running"


@pytest.mark.parametrize("state", ["stopped", "failed"])
def test_a_job_that_said_how_it_ended_is_not_silent(tmp_path: Path, state: str) -> None:
    write(tmp_path / "progress.json", progress(state, age=HOUR, message="why"), age=HOUR)
    life = life_in(tmp_path)
    assert (life.state, life.message) == (state, "why")


def test_a_job_that_was_killed_after_its_results_has_finished(tmp_path: Path) -> None:
    write(tmp_path / "progress.json", progress(age=HOUR), age=HOUR)
    assert life_in(tmp_path, finished_at=NOW - HOUR - 1).state == "finished"


def test_a_new_run_in_the_folder_of_a_finished_one_is_running(tmp_path: Path) -> None:
    write(tmp_path / "progress.json", progress())
    assert life_in(tmp_path, finished_at=NOW - HOUR).state == "running"


CLOCKS = {
    "the job's clock is behind": (HOUR + 1, 1),
    "the job's clock is ahead": (-HOUR, 1),
    "the disk's clock is behind": (1, HOUR),
    "the disk's clock is ahead": (1, -HOUR),
    "both are ahead": (-HOUR, -HOUR),
}


@pytest.mark.parametrize(("by_job", "by_disk"), CLOCKS.values(), ids=CLOCKS)
def test_a_job_that_lives_is_not_called_silent_by_clocks_that_differ(
    tmp_path: Path, by_job: float, by_disk: float
) -> None:
    write(tmp_path / "progress.json", progress(age=by_job), age=by_disk)
    assert life_in(tmp_path).state == "running"


def test_a_job_whose_clock_is_ahead_is_silent_once_it_writes_no_more(tmp_path: Path) -> None:
    write(tmp_path / "progress.json", progress(age=300 - HOUR), age=300)
    assert life_in(tmp_path).state == "silent"


def test_a_disk_in_the_future_is_told(tmp_path: Path) -> None:
    write(tmp_path / "progress.json", progress(), age=-HOUR)
    assert life_in(tmp_path).clock_ahead == HOUR


LOGS = {
    "2026-01-01 00:00:00  ended: stopped by SIGTERM; run it again": ("stopped", "stopped by SIGTERM; run it again"),
    "2026-01-01 00:00:00  ended: the disk is full": ("failed", "the disk is full"),
    "2026-01-01 00:00:00  ended by an error:\n2026-01-01 00:00:00  ValueError: x": ("failed", "ValueError: x"),
}


@pytest.mark.parametrize(("end", "expected"), LOGS.items())
def test_an_older_job_is_judged_by_its_log(tmp_path: Path, end: str, expected: tuple[str, str]) -> None:
    begin = "2026-01-01 00:00:00  training, tinyvit_kd 0, 1 process on cpu, on vm, process 12\n"
    write(tmp_path / "log.txt", f"{begin}2026-01-01 00:00:00  step 30/60  epoch 1\n{end}\n", age=HOUR)
    life = life_in(tmp_path)
    assert (life.state, life.message) == expected
    assert life.log_steps == (30, 60)
    write(tmp_path / "log.txt", f"{begin}{end}\n{begin}", age=HOUR)
    assert life_in(tmp_path).state == "silent", "it was started again after that"
    write(tmp_path / "log.txt", f"{begin}{end}\n{begin}", age=100)
    assert life_in(tmp_path).state == "running", "it writes a line only now and then"


def test_a_job_that_lives_and_gets_no_further_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "progress.json", progress(advanced=NOW - 601))
    assert life_in(tmp_path).stands_still == 600


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=50)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(progress(), ANYTHING)), st.lists(ANYTHING, max_size=2))
def test_no_content_of_the_files_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, Any], attempts: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("job")
    write(folder / "progress.json", said)
    write(folder / "attempts.json", {"attempts": [*attempts, {"started": 1, "until": 2, "host": said.get("host")}]})
    life = life_in(folder)
    assert life.state in ("starting", "running", "evaluating", "stopped", "failed", "finished", "silent", "killed")


@given(st.binary(max_size=30))
def test_no_bytes_in_the_files_are_an_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("job")
    for name in ("progress.json", "attempts.json", "log.txt"):
        (folder / name).write_bytes(content)
    assert life_in(folder).progress == {}
