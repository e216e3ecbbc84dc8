"""What a store holds: its facts, figures of a sample of its blocks, and pictures of some samples."""

from __future__ import annotations

import base64

from tinyvit_kd.reports.content import Picture, Report, ReportedStore
from tinyvit_kd.reports.curves_section import chart_figure
from tinyvit_kd.reports.markup import Content, Html, element, facts, folded, joined, table
from tinyvit_kd.reports.palette import style, swatch
from tinyvit_kd.reports.runs_section import command_lines, surroundings


def stores_section(report: Report) -> Html:
    """One part for each store."""
    return joined(*(_store(report, number, store) for number, store in enumerate(report.stores, len(report.runs))))


def _store(report: Report, number: int, store: ReportedStore) -> Html:
    name = element("span", swatch(style(number)), store.label, class_="run-name")
    parts: list[Content] = [element("h3", name)]
    parts.append(facts([("Path", element("code", store.where)), *store.facts]))
    parts += [element("p", note, class_="quiet") for note in store.notes]
    if store.charts:
        parts.append(element("div", *(chart_figure(chart, report.names) for chart in store.charts), class_="charts"))
    parts += [
        table(caption, head, rows, numbers=range(1, len(head))) if rows else "" for caption, head, rows in store.tables
    ]
    parts += [picture(each) for each in store.pictures]
    for results in store.dumps:
        commands = command_lines(results)
        inside = [facts(surroundings(results))]
        inside += [element("pre", "\n".join(commands))] if commands else []
        part = results.get("part")
        which = f", part {part[0]} of {part[1]}" if isinstance(part, list) and len(part) == 2 and part[1] != 1 else ""
        parts.append(folded(f"How it was dumped{which}", *inside))
    return element("section", *parts)


def picture(sheet: Picture) -> Html:
    """A picture that stands in the page itself."""
    data = base64.b64encode(sheet.data).decode()
    width, height = sheet.size
    return element(
        "figure",
        element("figcaption", element("b", sheet.title)),
        element("img", src=f"data:{sheet.kind};base64,{data}", alt=sheet.described, width=width, height=height),
        class_="sheet",
    )
