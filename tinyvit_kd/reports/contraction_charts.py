"""The charts of a search: each score against each cost, with the limits and the published networks."""

from __future__ import annotations

from collections.abc import Mapping

from tinyvit_kd.contraction.means import Mean
from tinyvit_kd.contraction.records import Costs, Result
from tinyvit_kd.contraction.rounds import Outcome, RoundRecord
from tinyvit_kd.reports.contraction_figures import COSTS, SCORES, cost, costs_shown, means, scores_shown
from tinyvit_kd.reports.scatter import Line, Point, Role, Scatter

Published = Mapping[str, Costs]  # by title of the network


def source_names(outcome: Outcome) -> list[str]:
    """Names of what the reader may switch off, by number: the base, and each round."""
    return ["base", *(f"round {record.number}" for record in outcome.rounds)]


def contraction_charts(outcome: Outcome, published: Published) -> tuple[Scatter, ...]:
    """All charts, score by score."""
    charts = (
        _chart(outcome, score, name, published) for score in scores_shown(outcome) for name in costs_shown(outcome)
    )
    return tuple(chart for chart in charts if any(chart.points.values()))


def _chart(outcome: Outcome, score: str, name: str, published: Published) -> Scatter:
    points = {0: _points([outcome.base], score, name, {})}
    points |= {
        source: _points(record.results, score, name, _roles(outcome, record))
        for source, record in enumerate(outcome.rounds, 1)
    }
    title = COSTS[name].title.lower() + (f", {COSTS[name].unit}" if COSTS[name].unit else "")
    places = [point.x for each in points.values() for point in each]
    lines = (*_limits(outcome, name), *_published(published, name, places))
    return Scatter(f"{score}-{name}", SCORES[score], title, points, lines)


def _points(results: list[Result], score: str, name: str, roles: Mapping[str, Role]) -> tuple[Point, ...]:
    scored = means(results, score)
    found = ((result, cost(result.costs, result.timing, name)) for result in results)
    return tuple(
        _point(result, place, scored[result.candidate.shape.name], roles)
        for result, place in found
        if place is not None and result.candidate.shape.name in scored
    )


def _point(result: Result, place: float, mean: Mean, roles: Mapping[str, Role]) -> Point:
    shape = result.candidate.shape.name
    told = ", ".join(result.candidate.moves)
    return Point(f"{shape}: {told}" if told else shape, place, mean.value, mean.error, roles.get(shape, "plain"))


def _roles(outcome: Outcome, record: RoundRecord) -> dict[str, Role]:
    roles: dict[str, Role] = dict.fromkeys(record.front, "front")
    roles |= dict.fromkeys(record.next_bases, "base")
    if record is outcome.rounds[-1]:
        roles |= dict.fromkeys(outcome.winners, "winner")
    return roles


def _limits(outcome: Outcome, name: str) -> list[Line]:
    """Each round's limit, and the last one's by name."""
    lines = [
        Line(record.limits[name], source=source)
        for source, record in enumerate(outcome.rounds, 1)
        if name in record.limits
    ]
    return lines + ([Line(outcome.targets[name], "limit", is_limit=True)] if name in outcome.targets else [])


def _published(published: Published, name: str, places: list[float]) -> list[Line]:
    """Published networks, where they do not lie so far away that all points would stand in a heap."""
    if name == "images_per_second" or not places:
        return []
    found = {title: cost(costs, None, name) for title, costs in published.items()}
    return [
        Line(place, title) for title, place in found.items() if place and min(places) / 2 <= place <= 2 * max(places)
    ]
