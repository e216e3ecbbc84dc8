"""Where points stand: by step, by epoch, and by the time that was spent in steps up to there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.reports.made_runs import RECIPE, write_run
from tinyvit_kd.analysis.jobs.run_folder import RunFolder, read_run
from tinyvit_kd.reports.axes import axes, steps_per_epoch


def run_of(lines: list[tuple[int, float]]) -> RunFolder:
    told = tuple({"kind": "train", "step": step, "time": 0.0, "step_seconds": seconds} for step, seconds in lines)
    return RunFolder(Path("run"), None, told, 0, None)


def test_epochs_follow_from_the_steps_of_the_whole_run(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", total=80))
    assert steps_per_epoch(run, 80) == 20
    assert axes(run, run.of_kind("eval"), 20).epoch == [2.0, 4.0]


def test_without_a_recipe_or_a_number_of_steps_there_are_no_epochs(tmp_path: Path) -> None:
    old = read_run(write_run(tmp_path / "old", recipe=None))
    assert steps_per_epoch(old, 80) is None
    assert steps_per_epoch(read_run(write_run(tmp_path / "new")), None) is None
    odd = {**RECIPE, "schedule": {"epochs": "many"}}
    assert steps_per_epoch(read_run(write_run(tmp_path / "odd", recipe=odd)), 80) is None


def test_time_is_that_of_the_steps_not_of_the_pauses_between() -> None:
    run = run_of([(100, 0.36), (200, 0.72)])
    found = axes(run, run.of_kind("train"), None)
    assert found.hours == pytest.approx([0.01, 0.03])
    between = axes(run, [{"kind": "eval", "step": 150, "time": 0.0}, {"kind": "eval", "step": 300, "time": 0.0}], None)
    assert between.hours == pytest.approx([0.02, 0.03])


def test_lines_that_do_not_say_how_long_a_step_took_have_no_time() -> None:
    run = RunFolder(Path("run"), None, ({"kind": "train", "step": 1, "time": 0.0},), 0, None)
    assert axes(run, run.of_kind("train"), None).hours is None


@given(st.lists(st.tuples(st.integers(0, 10**6), st.floats(-1, 100)), max_size=30), st.lists(st.integers(0, 10**6)))
def test_time_never_runs_backwards(lines: list[tuple[int, float]], places: list[int]) -> None:
    run = run_of(sorted(dict(lines).items()))
    found = axes(run, [{"kind": "eval", "step": step, "time": 0.0} for step in sorted(places)], None)
    assert found.hours is None or found.hours == sorted(found.hours)
    assert json.dumps(found.hours, allow_nan=False)
