"""The page of a search for smaller students: its winners, charts, rounds and candidates, in one file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tinyvit_kd import __version__
from tinyvit_kd.contraction.published import published_costs
from tinyvit_kd.contraction.records import Costs
from tinyvit_kd.contraction.rounds import Outcome
from tinyvit_kd.contraction.search_files import page_path
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.reports.assets import Assets, assets, style_alone
from tinyvit_kd.reports.contraction_charts import contraction_charts, source_names
from tinyvit_kd.reports.contraction_figures import COSTS, costs_shown
from tinyvit_kd.reports.contraction_tables import candidates_section, lineage_table, published_table, rounds_table
from tinyvit_kd.reports.curves_section import chart_place, source_choice, undrawn
from tinyvit_kd.reports.markup import Content, Html, element, joined
from tinyvit_kd.reports.page_frame import Part, framed
from tinyvit_kd.reports.palette import style
from tinyvit_kd.reports.scatter import Scatter, scatter_described, scatter_drawing
from tinyvit_kd.reports.words import moment, number
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.wording import counted


def write_contraction_page(folder: Path, outcome: Outcome, command: str = "") -> Path:
    """Write the page of a search into its folder; one that is there is replaced.

    Where plotly is not installed, the page has no charts, but all tables.

    Args:
        outcome: of the search, as far as it has come.
        command: that makes the page again.

    Returns:
        the file.

    Raises:
        OSError: it cannot be written.
    """
    path, base = page_path(folder), outcome.base.candidate.shape
    try:
        published = published_costs(base.family, outcome.num_classes, outcome.image_size)
    except ConfigError:  # images of this size are not for them
        published = {}
    try:
        around = assets()
    except ConfigError as error:
        note(f"{path.name} has tables alone: {error.what}; {error.fix} to have charts")
        around = None
    made = f"Made {moment(time.time())} with tinyvit_kd {__version__}."
    title = f"Contraction: {folder.resolve().name}"
    atomic_write(path, contraction_page(outcome, published, around, title, made, command).encode())
    return path


def contraction_page(
    outcome: Outcome, published: Mapping[str, Costs], around: Assets | None, title: str, made: str, command: str = ""
) -> str:
    """The page of a search as HTML.

    Args:
        published: what published networks take, by name.
        around: scripts, styles and policy; None: no charts are drawn.
        title: of the page.
        made: when, and with what.
        command: that makes the page again.
    """
    charts = () if around is None or not outcome.rounds else contraction_charts(outcome, published)
    sections: list[Part] = []
    if outcome.winners:
        sections.append(("winners", "Winners" if len(outcome.winners) > 1 else "The winner", _winners(outcome)))
    if outcome.rounds:
        sections.append(("candidates", "Scores and costs", _charts(outcome, charts, drawn=around is not None)))
        sections.append(("rounds", "Rounds", rounds_table(outcome)))
        all_candidates = joined(*(candidates_section(outcome, record) for record in outcome.rounds))
        sections.append(("all", "All candidates", all_candidates))
    if published:
        sections.append(("published", "Published networks", published_table(outcome, published)))
    looks = [(name, style(place)) for place, name in enumerate(source_names(outcome))]
    sources = [{"name": name, "colour": look.colour, "dashes": look.dashes, "mark": look.mark} for name, look in looks]
    data = {"sources": sources, "places": [], "charts": scatter_drawing(charts)}
    found = sum(len(record.results) for record in outcome.rounds)
    about = f"{counted(len(outcome.rounds), 'round')}, {counted(found, 'candidate')}. {made}"
    return framed(title, about, sections, around or style_alone(), data, command=command)


def _winners(outcome: Outcome) -> Html:
    parts: list[Content] = []
    for name in outcome.winners:
        result = outcome.result(name)
        assert result is not None
        ratio = result.costs.parameters / outcome.base.costs.parameters
        adds = result.costs.multiply_adds / outcome.base.costs.multiply_adds
        told = (
            f": {number(result.costs.parameters)} parameters, {ratio:.2g} of the base's, and "
            f"{number(result.costs.multiply_adds)} multiply-adds per image, {adds:.2g} of the base's."
        )
        parts += [element("p", element("code", name), told), *_tie(outcome, name), lineage_table(outcome, name)]
    return joined(*parts)


def _tie(outcome: Outcome, name: str) -> list[Html]:
    pairs = outcome.rounds[-1].ties
    tied = [one if other == name else other for one, other in pairs if name in (one, other)]
    said = (
        f"Its score is within two standard errors of the difference from that of {', '.join(tied)}: another search may "
        "choose otherwise."
    )
    return [element("p", said, class_="warning")] if tied else []


def _charts(outcome: Outcome, charts: tuple[Scatter, ...], drawn: bool) -> Html:
    if not drawn:
        return element("p", "There are no charts: plotly was not installed. All figures are in the tables.")
    names = source_names(outcome)
    places = (chart_place(each.name, each.shown, scatter_described(each, names)) for each in charts)
    limited = [COSTS[name].title.lower() for name in costs_shown(outcome) if name in outcome.targets]
    return joined(
        element("div", source_choice("Rounds", names), class_="controls"),
        undrawn(),
        element("div", *places, class_="charts"),
        *(element("p", each, class_="quiet") for each in _legend(limited)),
    )


def _legend(limited: list[str]) -> list[str]:
    return [
        "Hollow: another candidate is better in something and worse in nothing, or it left on the way. Filled: on the "
        "front, which a line joins. Large: a base of the next round. Star: a winner.",
        "Bars are standard errors of single scores. Differences are more certain, as all candidates are scored on the "
        "same samples.",
        f"Dotted lines are the limits of the rounds ({', '.join(limited)}), the dashed one is the last. Thin lines are "
        "published networks, which were not trained here.",
        "Candidates that left after fewer steps have the score of these; the scores of rounds can be compared where "
        "their steps are equal.",
    ]
