"""Charts as plain data, for the page's script to draw: one for each figure that any run has logged."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tinyvit_kd.analysis.jobs.run_folder import Line, RunFolder
from tinyvit_kd.reports.axes import axes
from tinyvit_kd.reports.figures import Figure, figure, is_count, order
from tinyvit_kd.reports.thinning import MOST_POINTS, Thinned, points_per_bin, positions, thinned
from tinyvit_kd.reports.words import is_number

_NOT_FIGURES = ("kind", "step", "time")
_ALL_POINTS = 20_000  # of one chart: with many runs each has fewer


@dataclass(frozen=True)
class Curve:
    """One run's or store's curve in a chart.

    Attributes:
        source: number of the run or store in the page's list.
        points: its values, after ``Figure.factor``.
        places: where they stand: by name of the axis, None where that is not known.
    """

    source: int
    points: Thinned
    places: Mapping[str, list[float] | None]


@dataclass(frozen=True)
class Chart:
    """A chart.

    Attributes:
        name: unique in the page.
        shown: title and unit.
        curves: at least one.
        axis: title of the horizontal axis; empty where it is the one that the reader chooses.
        diagonal: whether a line shows where both axes have the same value.
    """

    name: str
    shown: Figure
    curves: tuple[Curve, ...]
    axis: str = ""
    diagonal: bool = False


@dataclass(frozen=True)
class Curves:
    """All charts of runs, and what has to be said about them.

    Attributes:
        charts: in the order of the page.
        points_per_bin: by number of a run, where neighbours were put together.
        zero: titles of figures that are zero throughout, and so have no chart.
        not_finite: by title of a figure, how many values are NaN or infinite.
    """

    charts: tuple[Chart, ...]
    points_per_bin: dict[int, int] = field(default_factory=dict)
    zero: tuple[str, ...] = ()
    not_finite: dict[str, int] = field(default_factory=dict)


def charts_of_runs(runs: Sequence[RunFolder], steps_per_epoch: Sequence[float | None]) -> Curves:
    """The charts of runs, each with one curve for each run that has the figure.

    Args:
        steps_per_epoch: of each run; None where it is not known.
    """
    most = max(50, min(MOST_POINTS, _ALL_POINTS // max(1, len(runs))))
    curves: dict[tuple[str, str], list[Curve]] = {}
    bins: dict[int, int] = {}
    for number, (run, per_epoch) in enumerate(zip(runs, steps_per_epoch, strict=True)):
        for kind in sorted({line["kind"] for line in run.lines}):
            lines = with_throughput(run, run.of_kind(kind))
            per_bin = points_per_bin(len(lines), most)
            if per_bin > 1:
                bins[number] = max(per_bin, bins.get(number, 1))
            found = axes(run, lines, per_epoch)
            places = {
                name: None if values is None else positions(values, per_bin)
                for name, values in (("step", found.step), ("epoch", found.epoch), ("hours", found.hours))
            }
            for name in _figures(lines):
                points = thinned(_values(lines, name, figure(kind, name).factor), per_bin)
                curves.setdefault((kind, name), []).append(Curve(number, points, places))
    return _sorted(curves, bins)


def with_throughput(run: RunFolder, lines: Sequence[Line]) -> list[Line]:
    """Lines with images per second instead of seconds per step, where the recipe says how many a step has."""
    schedule = (run.recipe or {}).get("schedule")
    batch = schedule.get("global_batch_size") if isinstance(schedule, dict) else None
    if not is_number(batch):
        return list(lines)
    return [_with_rate(line, float(batch)) for line in lines]


def _with_rate(line: Line, batch: float) -> Line:
    seconds = line.get("step_seconds")
    if not is_number(seconds) or not seconds > 0:
        return line
    return {
        **{name: value for name, value in line.items() if name != "step_seconds"},
        "images_per_second": batch / seconds,
    }


def _figures(lines: Iterable[Line]) -> list[str]:
    """Names of what is a number in any line."""
    names = {name: None for line in lines for name, value in line.items() if is_number(value)}
    return [name for name in names if name not in _NOT_FIGURES and not is_count(name)]


def _values(lines: Iterable[Line], name: str, factor: float) -> list[float | None]:
    return [float(line[name]) * factor if is_number(line.get(name)) else None for line in lines]


def _sorted(curves: Mapping[tuple[str, str], list[Curve]], bins: dict[int, int]) -> Curves:
    charts: list[Chart] = []
    zero: list[str] = []
    not_finite: dict[str, int] = {}
    for kind, name in sorted(curves, key=lambda each: order(*each)):
        shown, found = figure(kind, name), curves[kind, name]
        if lost := sum(curve.points.not_finite for curve in found):
            not_finite[shown.title] = lost
        if shown.only_if_any and not any(map(_is_anything, found)):
            zero.append(shown.title)
        else:
            charts.append(Chart(f"{kind}-{name}", shown, tuple(found)))
    return Curves(tuple(charts), bins, tuple(zero), not_finite)


def _is_anything(curve: Curve) -> bool:
    return bool(curve.points.not_finite or any(curve.points.high or ()) or any(curve.points.middle))


def drawing(charts: Sequence[Chart]) -> dict[str, Any]:
    """Charts for the page's script: ``charts`` by name, and ``places``, of which several curves share one."""
    numbers: dict[int, int] = {}
    places: list[dict[str, list[float | None] | None]] = []
    for curve in (curve for chart in charts for curve in chart.curves):
        if id(curve.places) not in numbers:
            numbers[id(curve.places)] = len(places)
            places.append({name: _short(values) for name, values in curve.places.items()})
    return {
        "places": places,
        "charts": {
            chart.name: {
                "title": chart.shown.title,
                "unit": chart.shown.unit,
                "axis": chart.axis,
                "diagonal": chart.diagonal,
                "curves": [_curve(curve, numbers[id(curve.places)]) for curve in chart.curves],
            }
            for chart in charts
        },
    }


def _curve(curve: Curve, place: int) -> dict[str, Any]:
    points = curve.points
    return {
        "source": curve.source,
        "place": place,
        "y": _short(points.middle),
        "low": _short(points.low),
        "high": _short(points.high),
    }


def _short(values: Sequence[float | None] | None) -> list[float | None] | None:
    """Six significant digits, which no screen shows more of."""
    return None if values is None else [None if each is None else float(f"{each:.6g}") for each in values]


def described(chart: Chart, names: Sequence[str]) -> str:
    """What a chart shows, in words, for those who cannot see it."""
    unit = f" {chart.shown.unit}" if chart.shown.unit else ""
    said = []
    for curve in chart.curves:
        finite = [each for each in curve.points.middle if each is not None and math.isfinite(each)]
        if finite:
            first, last = (f"{each:.4g}{unit}" for each in (finite[0], finite[-1]))
            course = (
                last if len(finite) == 1 else f"from {first} to {last}, between {min(finite):.4g} and {max(finite):.4g}"
            )
            said.append(f"{names[curve.source]}: {course}")
    return f"{chart.shown.title}. {'; '.join(said)}."
