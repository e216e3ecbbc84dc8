"""Charts of single points with their errors, as plain data for the page's script to draw."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tinyvit_kd.reports.figures import Figure
from tinyvit_kd.reports.words import number

Role = Literal["plain", "front", "base", "winner"]


@dataclass(frozen=True)
class Point:
    """A point of a chart.

    Attributes:
        name: that is shown where the reader points at it.
        x, y: its place; finite.
        error: standard error of y.
        role: how it is marked: hollow, filled, large, or as a star.
    """

    name: str
    x: float
    y: float
    error: float
    role: Role


@dataclass(frozen=True)
class Line:
    """A vertical line.

    Attributes:
        at: its place.
        name: that stands beside it; empty for none.
        source: number of the source whose colour it has and with which it is switched off; None: it always shows.
        is_limit: whether it is a limit, which is drawn with dashes.
    """

    at: float
    name: str = ""
    source: int | None = None
    is_limit: bool = False


@dataclass(frozen=True)
class Scatter:
    """A chart of points.

    Attributes:
        name: unique in the page.
        shown: title and unit of the vertical axis.
        axis: title of the horizontal axis.
        points: by number of their source in the page's list.
        lines: vertical ones.
    """

    name: str
    shown: Figure
    axis: str
    points: dict[int, tuple[Point, ...]]
    lines: tuple[Line, ...] = ()


def scatter_drawing(charts: Iterable[Scatter]) -> dict[str, Any]:
    """Charts by name, for the page's script."""
    return {chart.name: _chart(chart) for chart in charts}


def _chart(chart: Scatter) -> dict[str, Any]:
    return {
        "title": chart.shown.title,
        "unit": chart.shown.unit,
        "axis": chart.axis,
        "scatter": [_group(source, points) for source, points in chart.points.items()],
        "lines": [
            {"at": _short(line.at), "name": line.name, "source": line.source, "limit": line.is_limit}
            for line in chart.lines
        ],
    }


def _group(source: int, points: Sequence[Point]) -> dict[str, Any]:
    return {
        "source": source,
        "x": [_short(point.x) for point in points],
        "y": [_short(point.y) for point in points],
        "errors": [_short(point.error) for point in points],
        "names": [point.name for point in points],
        "roles": [point.role for point in points],
    }


def _short(value: float) -> float:
    """Six significant digits, which no screen shows more of."""
    return float(f"{value:.6g}")


def scatter_described(chart: Scatter, names: Sequence[str]) -> str:
    """What a chart shows, in words, for those who cannot see it."""
    said = [f"{names[source]}: {_course(points)}" for source, points in chart.points.items() if points]
    said += [f"{line.name} at {number(line.at)}" for line in chart.lines if line.name]
    return f"{chart.shown.title} by {chart.axis}. {'; '.join(said)}."


def _course(points: Sequence[Point]) -> str:
    values = [point.y for point in points]
    places = [point.x for point in points]
    if len(points) == 1:
        return f"{values[0]:.4g} at {number(places[0])}"
    return (
        f"{len(points)} points, from {min(values):.4g} to {max(values):.4g}, "
        f"between {number(min(places))} and {number(max(places))}"
    )
