"""What a store holds: its facts, figures of a sample of its blocks, and pictures of some samples."""

from __future__ import annotations

import base64
from collections.abc import Sequence

from tinyvit_kd.reports.charts import Chart
from tinyvit_kd.reports.content import Picture, Report, ReportedStore
from tinyvit_kd.reports.curves_section import chart_figure
from tinyvit_kd.reports.markup import Content, Html, element, facts, folded, joined, table
from tinyvit_kd.reports.palette import style, swatch
from tinyvit_kd.reports.runs_section import command_lines, surroundings
from tinyvit_kd.reports.store_figures import store_charts, store_facts, store_tables


def stores_section(report: Report, charts: Sequence[Chart]) -> Html:
    """Charts that compare the stores, then one part for each."""
    drawn = element("div", *(chart_figure(chart, report.names) for chart in charts), class_="charts") if charts else ""
    parts = (_store(number, store) for number, store in enumerate(report.stores, len(report.runs)))
    return joined(drawn, *parts)


def charts_of_stores(report: Report) -> tuple[Chart, ...]:
    """The charts of all stores whose figures could be read."""
    numbered = enumerate(report.stores, len(report.runs))
    return store_charts({number: store.figures for number, store in numbered if store.figures is not None})


def _store(number: int, store: ReportedStore) -> Html:
    name = element("span", swatch(style(number)), store.label, class_="run-name")
    terms: list[tuple[str, Content]] = [("Path", element("code", store.where)), *store.facts]
    terms += store_facts(store.figures) if store.figures else ()
    parts: list[Content] = [element("h3", name), facts(terms)]
    parts += [element("p", note, class_="quiet") for note in store.notes]
    found = store_tables(store.figures) if store.figures else ()
    tables = (table(caption, head, rows, numbers=range(1, len(head))) for caption, head, rows in found)
    parts.append(element("div", *tables, class_="tables"))
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
        element(
            "div",
            element("img", src=f"data:{sheet.kind};base64,{data}", alt=sheet.described, width=width, height=height),
            class_="scroll",
            tabindex=0,
            role="region",
            aria_label=sheet.title,
        ),
        class_="sheet",
    )
