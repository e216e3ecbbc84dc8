"""How far a run is, as its folder shows it."""

from __future__ import annotations

from pathlib import Path

from tests.analysis.job_folders import NOW, progress, write, write_run
from tinyvit_kd.analysis.jobs.run_status import run_status

TRAIN = {"kind": "train", "step": 100, "time": NOW - 5, "loss": 2.5, "step_seconds": 0.5, "data_wait": 0.25}
EVAL = {"kind": "eval", "step": 100, "time": NOW - 4, "top1": 40.0, "samples": 50.0}


def test_a_running_run_is_described_by_what_it_says(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", TRAIN, EVAL)
    write(folder / "progress.json", progress())
    write(folder / "checkpoints" / "step-000000100.pt", "12345", age=30)
    write(folder / "checkpoints" / "step-000000050.pt", "123", age=60)
    write(folder / "checkpoints" / ".step-000000150.pt.12345678.partial", "1")
    status = run_status(folder, NOW)
    assert (status.stage, status.state, status.done, status.total) == ("pretrain", "running", 120, 400)
    assert status.rate == 32, "images, not steps"
    assert status.seconds_left == 139, "a second has passed since it was written"
    assert (status.step, status.loss, status.data_wait) == (100, 2.5, 0.25)
    assert status.evaluation == {"step": 100, "top1": 40, "samples": 50}
    assert [(each.step, each.bytes, each.age) for each in status.checkpoints] == [(100, 5, 30), (50, 3, 60)]
    assert status.notes == ()


def test_a_line_of_metrics_that_is_newer_than_the_progress_counts(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", TRAIN | {"step": 140, "time": NOW})
    write(folder / "progress.json", progress(age=4))
    assert run_status(folder, NOW).done == 140


def test_a_run_of_an_older_version_is_told_from_its_metrics_and_its_log(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", TRAIN)
    write(folder / "log.txt", "2026-01-01 00:00:00  step 100/400  epoch 1\n", age=20)
    status = run_status(folder, NOW)
    assert (status.state, status.done, status.total, status.seconds_left) == ("running", 100, 400, 150)
    assert status.rate == 32
    assert status.seconds is None


def test_a_run_that_vanishes_is_told_not_raised(tmp_path: Path) -> None:
    status = run_status(tmp_path / "gone", NOW)
    assert status.state == "unknown"
    assert "no run folder" in (status.message or "")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    for name in ("recipe.yaml", "summary.json", "progress.json", "metrics.jsonl"):
        write(folder / name, "{\n{", age=1000)
    notes = " ".join(run_status(folder, NOW).notes)
    assert all(name in notes for name in ("recipe", "summary.json", "progress.json", "metrics.jsonl"))
