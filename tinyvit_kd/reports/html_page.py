"""The page: all sections of a report in one file that loads nothing."""

from __future__ import annotations

from tinyvit_kd.reports.assets import Assets
from tinyvit_kd.reports.axes import steps_per_epoch
from tinyvit_kd.reports.charts import charts_of_runs, drawing
from tinyvit_kd.reports.content import Report
from tinyvit_kd.reports.curves_section import curves_section, undrawn
from tinyvit_kd.reports.markup import Content, Html, element, facts, joined
from tinyvit_kd.reports.page_frame import Part, framed
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
    sections: list[Part] = []
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
    holds = [counted(len(each), noun) for each, noun in ((report.runs, "run"), (report.stores, "store")) if each]
    made = f"{' and '.join(holds)}. {report.made}"
    return framed(report.title, made, sections, around, data, warning=_not_read(report), command=report.command)


def _sources(report: Report) -> list[dict[str, str]]:
    """Names and styles of runs and stores, for the page's script."""
    looks = [(name, style(number)) for number, name in enumerate(report.names)]
    return [{"name": name, "colour": look.colour, "dashes": look.dashes, "mark": look.mark} for name, look in looks]


def _not_read(report: Report) -> Content:
    if not report.not_read:
        return ""
    rows: list[tuple[str, Content]] = [(path, reason) for path, reason in report.not_read]
    return joined(element("p", "Not in this report, because it could not be read:"), facts(rows))
