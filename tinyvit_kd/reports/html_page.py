"""The page: all sections of a report in one file that loads nothing."""

from __future__ import annotations

from tinyvit_kd.reports.assets import Assets
from tinyvit_kd.reports.axes import steps_per_epoch
from tinyvit_kd.reports.charts import charts_of_runs, drawing
from tinyvit_kd.reports.content import Report
from tinyvit_kd.reports.curves_section import curves_section, undrawn
from tinyvit_kd.reports.markup import Content, Html, data_block, element, facts, joined
from tinyvit_kd.reports.palette import style
from tinyvit_kd.reports.recipes_section import recipes_section
from tinyvit_kd.reports.results_section import results_section
from tinyvit_kd.reports.runs_section import runs_section
from tinyvit_kd.reports.stores_section import charts_of_stores, stores_section
from tinyvit_kd.runtime.wording import counted


def html_page(report: Report, around: Assets) -> str:
    """A report as HTML.

    Args:
        around: scripts, styles and policy (``assets.assets``).
    """
    curves = charts_of_runs(
        [run.folder for run in report.runs], [steps_per_epoch(run.folder, run.status.total) for run in report.runs]
    )
    of_stores = charts_of_stores(report)
    sections: list[tuple[str, str, Html]] = []
    if report.runs:
        sections.append(("results", "Results", results_section(report)))
        sections.append(("curves", "Curves", curves_section(report, curves)))
    if len(report.runs) > 1:
        sections.append(("recipes", "Differences between recipes", recipes_section(report)))
    if report.stores:
        note = undrawn() if not report.runs else Html("")
        sections.append(("stores", "Stores", joined(note, stores_section(report, of_stores))))
    if report.runs:
        sections.append(("runs", "Where each run comes from", runs_section(report)))
    data = {"sources": _sources(report), **drawing([*curves.charts, *of_stores])}
    head = joined(
        Html('<meta charset="utf-8">'),
        around.head,
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", report.title),
    )
    body = joined(_header(report, sections), element("main", *map(_section, sections)), _footer(report))
    end = joined(data_block("drawing", data), around.scripts)
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>{body}\n{end}</body></html>\n'


def _sources(report: Report) -> list[dict[str, str]]:
    """Names and styles of runs and stores, for the page's script."""
    looks = [(name, style(number)) for number, name in enumerate(report.names)]
    return [{"name": name, "colour": look.colour, "dashes": look.dashes, "mark": look.mark} for name, look in looks]


def _header(report: Report, sections: list[tuple[str, str, Html]]) -> Html:
    holds = [counted(len(each), noun) for each, noun in ((report.runs, "run"), (report.stores, "store")) if each]
    links = [element("li", element("a", title, href=f"#{name}")) for name, title, _ in sections]
    parts: list[Content] = [
        element("h1", report.title),
        element("p", f"{' and '.join(holds)}. {report.made}", class_="quiet"),
        element("nav", element("ul", *links), aria_label="Sections"),
    ]
    if report.not_read:
        rows: list[tuple[str, Content]] = [(path, reason) for path, reason in report.not_read]
        parts.append(
            element(
                "div", element("p", "Not in this report, because it could not be read:"), facts(rows), class_="warning"
            )
        )
    return element("header", *parts)


def _section(section: tuple[str, str, Html]) -> Html:
    name, title, content = section
    return element("section", element("h2", title), content, id=name)


def _footer(report: Report) -> Html:
    said: list[Content] = ["This file is complete in itself: it loads nothing, and can be mailed, printed or archived."]
    if report.command:
        said += [" Made by ", element("code", report.command), "."]
    return element("footer", element("p", *said))
