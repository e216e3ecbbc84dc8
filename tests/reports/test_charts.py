"""There is a chart for each figure that a run has logged, and a word on what has none."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.reports.made_runs import RECIPE, write_run
from tinyvit_kd.analysis.jobs.run_folder import read_run
from tinyvit_kd.reports.charts import Curves, charts_of_runs, described, drawing


def curves(*folders: Path) -> Curves:
    return charts_of_runs([read_run(folder) for folder in folders], [None] * len(folders))


def test_evaluations_come_first_and_every_figure_has_a_chart(tmp_path: Path) -> None:
    found = curves(write_run(tmp_path / "run", odd_figure=3.0))
    names = [chart.name for chart in found.charts]
    assert names[:3] == ["eval-top1", "eval-top5", "eval-mean_per_class"]
    assert names[-1] == "train-odd_figure"
    assert {"train-loss", "train-lr", "train-images_per_second", "train-data_wait", "train-grad_norm"} <= set(names)
    assert "eval-samples" not in names


def test_what_is_zero_throughout_is_named_in_place_of_a_chart(tmp_path: Path) -> None:
    found = curves(write_run(tmp_path / "run"))
    assert found.zero == ("Views without an image", "Steps skipped so far")
    again = curves(write_run(tmp_path / "other", holes=0.25))
    (chart,) = [chart for chart in again.charts if chart.name == "train-holes"]
    assert chart.curves[0].points.middle == [25.0] * 8


def test_throughput_is_a_batch_per_time_of_a_step(tmp_path: Path) -> None:
    (chart,) = [each for each in curves(write_run(tmp_path / "run")).charts if each.shown.title == "Throughput"]
    assert chart.curves[0].points.middle == [128.0] * 8


def test_without_a_recipe_the_time_of_a_step_is_shown_in_its_place(tmp_path: Path) -> None:
    names = [chart.name for chart in curves(write_run(tmp_path / "old", recipe=None)).charts]
    assert "train-step_seconds" in names
    assert "train-images_per_second" not in names


def test_values_that_are_not_finite_are_told(tmp_path: Path) -> None:
    found = curves(write_run(tmp_path / "run", loss=math.nan), write_run(tmp_path / "other"))
    assert found.not_finite == {"Training loss": 8}


def test_runs_share_a_chart_and_their_lines_share_places(tmp_path: Path) -> None:
    found = curves(write_run(tmp_path / "a"), write_run(tmp_path / "b", recipe={**RECIPE, "stage": "pretrain"}))
    assert all([curve.source for curve in chart.curves] == [0, 1] for chart in found.charts)
    data = drawing(found.charts)
    assert len(data["places"]) == 4, "one of training and one of evaluations for each run"
    for chart in data["charts"].values():
        for curve in chart["curves"]:
            assert len(curve["y"]) == len(data["places"][curve["place"]]["step"])


def test_a_long_run_is_thinned_and_more_so_beside_many_others(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "long", lines=1500, total=15_000))
    alone = charts_of_runs([run], [None])
    assert alone.points_per_bin == {0: 3}
    assert max(len(curve.points.middle) for chart in alone.charts for curve in chart.curves) == 500
    many = charts_of_runs([run] * 60, [None] * 60)
    assert max(sum(len(curve.points.middle) for curve in chart.curves) for chart in many.charts) <= 20_000


@pytest.mark.parametrize(("lines", "said"), [(8, "from 44 % to 48 %, between 44 and 48"), (4, "a: 44 %")])
def test_a_chart_is_described_in_words(tmp_path: Path, lines: int, said: str) -> None:
    chart = curves(write_run(tmp_path / "a", lines=lines)).charts[0]
    assert said in described(chart, ["a"])
