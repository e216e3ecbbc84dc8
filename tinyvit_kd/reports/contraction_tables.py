"""The tables of a search: its winners, how each was reached, its rounds, and all of their candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinyvit_kd.contraction.means import Mean
from tinyvit_kd.contraction.records import Costs, Result
from tinyvit_kd.contraction.rounds import Outcome, RoundRecord
from tinyvit_kd.reports.contraction_figures import COSTS, SCORES, cost, costs_shown, means, scores_shown
from tinyvit_kd.reports.figures import Figure
from tinyvit_kd.reports.markup import Content, Html, element, folded, joined, table
from tinyvit_kd.reports.words import number

_LEAST = ("images_per_second",)  # limits that are least values
_HOW = {"measured": "", "hardware": " (reckoned)", "predicted": " (predicted)"}


def lineage_table(outcome: Outcome, name: str) -> Html:
    """How a shape was reached from the base, move by move, and what it cost at each step."""
    costs, scores = costs_shown(outcome), scores_shown(outcome)
    rows = []
    for place, result in outcome.lineage(name):
        among = [outcome.base] if place == 0 else _record(outcome, place).results
        moves = "; ".join(result.candidate.moves) or ("where the search began" if place == 0 else "as it was")
        first = "base" if place == 0 else f"round {place}"
        rows.append([first, moves, *_figures(result, among, costs, scores), _shape(result)])
    head = ["", "Moves", *_headings(costs, scores), "Shape"]
    return table(f"From the base to {name}", head, rows, numbers=range(2, len(head) - 1))


def rounds_table(outcome: Outcome) -> Html:
    """Each round with its limits, and how many of its candidates came how far."""
    limits = [name for name in COSTS if name in outcome.targets]
    head = [
        "Round",
        *(f"{_title(COSTS[name])}, at {'least' if name in _LEAST else 'most'}" for name in limits),
        *("Bases", "Candidates", "Timed", "Predicted", "Refused untrained", "Left in training", "To the end"),
        *("On the front", "Ties"),
    ]
    rows = [
        [
            str(record.number),
            *(number(record.limits[name]) if name in record.limits else "–" for name in limits),
            *(f"{count:,}" for count in _counts(record)),
        ]
        for record in outcome.rounds
    ]
    caption = "Rounds. A tie is a pair of candidates whose scores cannot be told apart."
    return table(caption, head, rows, numbers=range(1, len(head)))


def _counts(record: RoundRecord) -> tuple[int, ...]:
    results = record.results
    how = [result.timing.how for result in results if result.timing is not None]
    trained = [result for result in results if result.scores]
    return (
        len(record.bases),
        len(results),
        how.count("measured"),
        how.count("predicted") + how.count("hardware"),
        sum(result.out is not None and not result.scores for result in results),
        sum(result.out is not None for result in trained),
        sum(result.out is None for result in trained),
        len(record.front),
        len(record.ties),
    )


def candidates_section(outcome: Outcome, record: RoundRecord) -> Html:
    """A round's candidates, the best first, and the pairs that are tied."""
    costs, scores = costs_shown(outcome), scores_shown(outcome)
    ranked = means(record.results, "cross_entropy")
    unscored = Mean(float("inf"), 0.0)
    results = sorted(
        record.results,
        key=lambda each: (each.out is not None, ranked.get(each.candidate.shape.name, unscored).value),
    )
    rows = [
        [_shape(each), *_figures(each, record.results, costs, scores), _moves(each), _fate(outcome, record, each)]
        for each in results
    ]
    head = ["Shape", *_headings(costs, scores), "Moves", "What became of it"]
    columns = range(1, 1 + len(costs) + len(scores))
    parts: list[Content] = [table(f"Candidates of round {record.number}", head, rows, numbers=columns)]
    if record.ties:
        pairs = "; ".join(f"{one} and {other}" for one, other in record.ties)
        parts.append(element("p", f"Not to be told apart by their scores: {pairs}.", class_="quiet"))
    return folded(f"Round {record.number}: {len(results):,} candidates", *parts, long=True)


def published_table(outcome: Outcome, published: Mapping[str, Costs]) -> Html:
    """What the published networks take, and the winners beside them."""
    costs = [name for name in costs_shown(outcome) if name != "images_per_second"]
    found = {name: outcome.result(name) for name in outcome.winners}
    rows: list[list[Content]] = [
        [title, *(_cost(each, None, name) for name in costs)] for title, each in published.items()
    ]
    rows += [
        [f"★ {name}", *(_cost(result.costs, result, cost_name) for cost_name in costs)]
        for name, result in found.items()
        if result is not None
    ]
    head = ["Network", *_headings(costs, [])]
    caption = f"Published networks with {outcome.num_classes:,} classes at {outcome.image_size} pixels, and winners"
    return table(caption, head, rows, numbers=range(1, len(head)))


def _headings(costs: Sequence[str], scores: Sequence[str]) -> list[str]:
    return [*(_title(COSTS[name]) for name in costs), *(_title(SCORES[name]) for name in scores)]


def _title(shown: Figure) -> str:
    return f"{shown.title}, {shown.unit}" if shown.unit else shown.title


def _figures(result: Result, among: Sequence[Result], costs: Sequence[str], scores: Sequence[str]) -> list[Content]:
    """A candidate's cells; errors of its scores are reckoned among its round's."""
    name = result.candidate.shape.name
    found = (means(among, score).get(name) for score in scores)
    return [*(_cost(result.costs, result, each) for each in costs), *map(_mean, scores, found)]


def _cost(costs: Costs, result: Result | None, name: str) -> str:
    timing = None if result is None else result.timing
    value = cost(costs, timing, name)
    if value is None:
        return "–"
    how = _HOW.get(timing.how, f" ({timing.how})") if timing is not None and name == "images_per_second" else ""
    return f"{number(float(f'{value:.4g}')) if name == 'images_per_second' else number(value)}{how}"


def _mean(score: str, mean: Mean | None) -> str:
    if mean is None:
        return "–"
    digits = 4 if score == "cross_entropy" else 2
    return f"{mean.value:.{digits}f} ± {mean.error:.{digits}f}"


def _shape(result: Result) -> Html:
    return element("code", result.candidate.shape.name)


def _moves(result: Result) -> Content:
    candidate = result.candidate
    told = "; ".join(candidate.moves) or "none"
    return told if candidate.base is None else joined(f"{told}, from ", element("code", candidate.base))


def _fate(outcome: Outcome, record: RoundRecord, result: Result) -> str:
    name = result.candidate.shape.name
    if result.out is not None:
        return result.out
    if record is outcome.rounds[-1] and name in outcome.winners:
        return "winner"
    if name in record.next_bases:
        return "a base of the next round"
    return "on the front" if name in record.front else "another one beats it"


def _record(outcome: Outcome, number_: int) -> RoundRecord:
    return next(record for record in outcome.rounds if record.number == number_)
