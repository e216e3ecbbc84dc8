"""The first table: what came of each run, with the best values marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinyvit_kd.reports.charts import with_throughput
from tinyvit_kd.reports.content import Report, ReportedRun
from tinyvit_kd.reports.figures import EVAL, TRAIN, Figure, figure, is_count, order
from tinyvit_kd.reports.markup import Content, Html, element, folded, joined, table
from tinyvit_kd.reports.palette import style, swatch
from tinyvit_kd.reports.states import LOOK, run_state
from tinyvit_kd.reports.words import is_number, measured
from tinyvit_kd.runtime.wording import duration

_HEADLINES = ("top1", "top5", "mean_per_class")  # of evaluations
_OTHER = ("loss", "images_per_second")


def results_section(report: Report) -> Html:
    """The table of results, and all other final figures folded away."""
    runs = report.runs
    named = [(name, EVAL[name]) for name in _HEADLINES if any(name in final(run) for run in runs)]
    named += [(name, TRAIN[name]) for name in _OTHER if any(name in final(run) for run in runs)]
    head = ["Run", "Stage", "State", *(_heading(shown) for _, shown in named), "Steps", "Time"]
    rows = [_row(number_, run, named, runs) for number_, run in enumerate(runs)]
    columns = range(3, len(head))
    caption = "Last figures of each run. ★ marks the best of several runs, where more or less of a figure is better."
    parts: list[Content] = [table(caption, head, rows, numbers=columns)]
    parts += [element("p", note, class_="quiet") for note in _cautions(runs)]
    return joined(*parts, folded("All final figures", _all_figures(runs), long=True))


def final(run: ReportedRun) -> dict[str, Any]:
    """A run's last figures: its summary's if it has finished, otherwise those of its last lines."""
    figures: dict[str, Any] = {}
    for kind in ("train", "eval"):
        for line in with_throughput(run.folder, run.folder.of_kind(kind)[-1:]):
            figures |= {name: value for name, value in line.items() if name not in ("kind", "step", "time")}
    return figures | (run.folder.summary or {})


def run_name(number_: int, run: ReportedRun) -> Html:
    """A run's name behind a piece of its line."""
    return element("span", swatch(style(number_)), run.label, class_="run-name")


def _heading(shown: Figure) -> str:
    return f"{shown.title}, {shown.unit}" if shown.unit and shown.unit != "%" else shown.title


def _row(
    number_: int, run: ReportedRun, named: Sequence[tuple[str, Figure]], runs: Sequence[ReportedRun]
) -> list[Content]:
    return [
        run_name(number_, run),
        str(run.recipe.get("stage", "not known")),
        element("td", run_state(run.status), class_=f"state {LOOK.get(run.status.state, '')}".strip()),
        *(_figure_cell(final(run).get(name), shown, [final(each).get(name) for each in runs]) for name, shown in named),
        _steps(run),
        _time(run),
    ]


def _figure_cell(value: Any, shown: Figure, among: Sequence[Any]) -> Html:
    others = [each for each in among if is_number(each) and math.isfinite(each)]
    best = (
        shown.more_is_better is not None
        and shown.unit == "%"  # not of throughput, which says as much of the machine
        and len(others) > 1
        and is_number(value)
        and value == (max(others) if shown.more_is_better else min(others))
    )
    ranked = " ranked" if shown.more_is_better is not None and shown.unit == "%" else ""
    return element("td", measured(value, shown), class_=f"number{ranked}{' best' if best else ''}")


def _steps(run: ReportedRun) -> str:
    done = max((line["step"] for line in run.folder.lines), default=run.status.done or 0)
    total = run.status.total
    return f"{done:,}" if run.has_finished or not total else f"{done:,} of {total:,}"


def _time(run: ReportedRun) -> str:
    """Seconds of all attempts where they were kept; else from the first line of the metrics to the last."""
    seconds = run.results.get("seconds")
    if is_number(seconds):
        return duration(seconds)
    times = [line["time"] for line in run.folder.lines if is_number(line.get("time"))]
    return f"≥ {duration(max(times) - min(times))}" if len(times) > 1 else "not known"


def _cautions(runs: Sequence[ReportedRun]) -> list[str]:
    """What must not be compared."""
    said = []
    objectives = {str((run.recipe.get("stage"), run.recipe.get("loss"))) for run in runs if run.recipe}
    if len(objectives) > 1:
        said.append("Losses are not comparable here: these runs have different objectives.")
    scored = {str(run.recipe.get("eval")) for run in runs if run.recipe and run.folder.of_kind("eval")}
    if len(scored) > 1:
        said.append("Accuracies may not be comparable: these runs were not evaluated in the same way (recipe, eval).")
    if any(_time(run).startswith("≥") for run in runs):
        said.append("≥: the time between a run's first and last metrics; how long it took in all was not recorded.")
    return said


def _all_figures(runs: Sequence[ReportedRun]) -> Html:
    names = {name for run in runs for name, value in final(run).items() if is_number(value)}
    rows = []
    for name in sorted(names, key=_place):
        shown = figure(_kind(name), name)
        cells = [_any_figure(final(run).get(name), shown) for run in runs]
        rows.append([joined(shown.title, " ", element("code", name, class_="quiet")), *cells])
    head = ["Figure", *(run_name(place, run) for place, run in enumerate(runs))]
    return table("All final figures", head, rows, numbers=range(1, len(runs) + 1))


def _any_figure(value: Any, shown: Figure) -> str:
    text = measured(value, shown)
    return f"{text} {shown.unit}" if shown.unit not in ("", "%") and is_number(value) else text


def _kind(name: str) -> str:
    return "eval" if name in EVAL else "train"


def _place(name: str) -> tuple[int, int, str]:
    return (3, 0, name) if is_count(name) else order(_kind(name), name)
