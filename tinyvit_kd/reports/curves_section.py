"""The charts of runs, with the controls that choose what they show."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvit_kd.reports.charts import Chart, Curves, described
from tinyvit_kd.reports.content import Report
from tinyvit_kd.reports.figures import Figure
from tinyvit_kd.reports.markup import Content, Html, element, joined
from tinyvit_kd.reports.palette import style, swatch
from tinyvit_kd.runtime.wording import counted


def curves_section(report: Report, curves: Curves) -> Html:
    """Controls, charts, and what has to be known to read them."""
    if not curves.charts:
        return element("p", "No run has logged a figure yet.")
    drawn = element("div", *(chart_figure(chart, report.names) for chart in curves.charts), class_="charts")
    return joined(_controls(report, curves), undrawn(), drawn, *_notes(report, curves))


def undrawn() -> Html:
    """What stands in place of charts where scripts do not run."""
    said = "The charts are drawn by a script in this file, which did not run here. All figures are in the tables."
    return joined(
        element("noscript", element("p", said, class_="warning")),
        element("p", said, class_="warning undrawn", hidden=True),
    )


def chart_figure(chart: Chart, names: Sequence[str]) -> Html:
    """The place of one chart: its title, and what it shows in words."""
    return chart_place(chart.name, chart.shown, described(chart, names))


def chart_place(name: str, shown: Figure, in_words: str) -> Html:
    """Where the page's script draws a chart, below its title."""
    unit = element("span", f" ({shown.unit})", class_="unit") if shown.unit else ""
    return element(
        "figure",
        element("figcaption", element("b", shown.title), unit),
        element("div", class_="plot", data_chart=name, role="img", aria_label=in_words),
    )


def _controls(report: Report, curves: Curves) -> Html:
    parts: list[Content] = []
    if len(report.runs) > 1:
        parts.append(source_choice("Runs", [run.label for run in report.runs]))
    axes = [("step", "steps"), ("epoch", "epochs"), ("hours", "time in training")]
    known = [
        each for each in axes if any(curve.places.get(each[0]) for chart in curves.charts for curve in chart.curves)
    ]
    options = [element("option", said, value=name) for name, said in known]
    parts.append(_choice("Along", element("select", *options, id="axis", autocomplete="off")))
    parts.append(_choice("logarithmic", element("input", type="checkbox", id="log", autocomplete="off"), behind=True))
    smooth = [element("option", said, value=size) for size, said in ((1, "off"), (9, "over 9 points"), (45, "over 45"))]
    parts.append(_choice("Smoothing", element("select", *smooth, id="smooth", autocomplete="off")))
    if curves.points_per_bin:
        box = element("input", type="checkbox", id="range", checked=True, autocomplete="off")
        parts.append(_choice("smallest to largest", box, behind=True))
    return element("div", *parts, class_="controls")


def source_choice(title: str, names: Sequence[str]) -> Html:
    """Boxes that switch sources on and off, by their number in the page's list."""
    boxes = [
        element(
            "label",
            element("input", type="checkbox", checked=True, data_source=number, autocomplete="off"),
            swatch(style(number)),
            name,
        )
        for number, name in enumerate(names)
    ]
    buttons = [
        element("button", name, type="button", data_all=value) for name, value in (("all", "on"), ("none", "off"))
    ]
    return element("fieldset", element("legend", title), *boxes, *buttons)


def _choice(name: str, control: Html, behind: bool = False) -> Html:
    return element("label", *((control, name) if behind else (name, control)), class_="screen-only")


def _notes(report: Report, curves: Curves) -> list[Html]:
    """What was done to the curves, and what is not in them."""
    said = []
    if curves.points_per_bin:
        together: dict[int, list[str]] = {count: [] for count in sorted(curves.points_per_bin.values())}
        for number, count in sorted(curves.points_per_bin.items()):
            together[count].append(report.runs[number].label)
        said.append(
            "Long curves are thinned: each point is the mean of neighbouring lines of the metrics, and the area behind "
            "the curve reaches from the smallest to the largest of them: "
            + "; ".join(f"up to {count} lines for {', '.join(names)}" for count, names in together.items())
            + "."
        )
    if curves.zero:
        said.append(f"Zero throughout, and not drawn: {', '.join(curves.zero)}.")
    for title, count in curves.not_finite.items():
        said.append(f"{title}: {counted(count, 'value')} not finite (NaN or infinite), left out of means and curves.")
    for run in report.runs:
        if run.folder.damaged_lines:
            lines = counted(run.folder.damaged_lines, "line")
            said.append(f"{run.label}: {lines} of its metrics cannot be read, and are left out.")
    said.append(
        "Time in training is spent in steps: evaluations, checkpoints and pauses are not in it. Epochs are known where "
        "the number of steps is."
    )
    return [element("p", each, class_="quiet") for each in said]
