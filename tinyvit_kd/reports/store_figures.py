"""A store's figures in the words, tables and charts of a page.

They are those of ``analysis.records.store_statistics``, as plain data; what is not known there is null.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinyvit_kd.reports.charts import Chart, Curve
from tinyvit_kd.reports.content import Figures, Table
from tinyvit_kd.reports.figures import Figure
from tinyvit_kd.reports.thinning import thinned
from tinyvit_kd.runtime.wording import binary_size, counted

CLASSES_NAMED = 5  # at each end
_CONFIDENCE_STEPS = 20  # points of the curve of the best class's probability


def store_facts(figures: Figures) -> tuple[tuple[str, str], ...]:
    """Terms and what they are, in the order of the page."""
    read, between, measured = figures["read"], figures["between_views"], figures["bytes"]
    return (
        ("Figures are of", _read(read)),
        ("Labels", _labels(figures["labels"])),
        ("Agreement", _agreement(figures["agreement"])),
        (
            "Views of a sample",
            ""
            if between is None
            else f"have the same best class in {between['same_best']:.1%} of "
            f"{counted(between['pairs'], 'pair')}; Jensen-Shannon divergence {between['js_divergence'] or 0:.3f} of at "
            f"most {between['largest_js_divergence']:.3f} nats",
        ),
        (
            "Size",
            ""
            if measured["per_record"] is None
            else f"{measured['per_record']:.2f} bytes per record; the complete "
            f"store has about {binary_size(measured['complete_store'])} at that",
        ),
        ("Holes", f"{figures['holes']['holes']:,} of {counted(figures['holes']['samples'], 'sample')} looked at"),
        ("Calibration error", _calibration(figures["calibration"])),
    )


def _read(read: Figures) -> str:
    missing = read["total_blocks"] - read["present_blocks"]
    parts = [
        f"{read['blocks']:,} of {counted(read['present_blocks'], 'block')}, {counted(read['records'], 'record')}",
        "a sample, evenly spread" if read["is_sample"] else "",
        f"{counted(missing, 'block')} not dumped yet" if missing else "",
        f"{counted(read['unread_blocks'], 'block')} damaged or unreadable, and left out"
        if read["unread_blocks"]
        else "",
    ]
    return "; ".join(part for part in parts if part)


def _labels(labels: Figures) -> str:
    views = f", {counted(labels['views'], 'view')}" if labels["kind"] != "none" else ""
    note = f"; {labels['note']}" if labels["note"] else ""
    return f"{labels['source']}{views}{note}"


def _agreement(found: Figures | None) -> str:
    if found is None:
        return "not known without labels"
    top5 = "" if found["top5"] is None else f", and among its five best in {found['top5']:.1%}"
    return f"the label is the teacher's best class in {found['top1']:.1%} of the views{top5}"


def _calibration(found: Figures | None) -> str:
    return "" if found is None else f"{found['expected_error']:.3f} (expected calibration error of the best class)"


def store_tables(figures: Figures) -> tuple[Table, ...]:
    """Further figures, each a caption, a head and rows."""
    return tuple(each for each in (_spreads(figures), _classes(figures), _bytes(figures)) if each is not None)


def _spreads(figures: Figures) -> Table:
    topk = figures["store"]["topk"]
    meanings = {
        "confidence": "Probability of the best class",
        "residual": f"Probability outside the top {topk:,}",
        "entropy": "Entropy, nats",
    }
    places = ("mean", "p10", "p50", "p90")
    rows = tuple((text, *(_fraction(figures[name][each]) for each in places)) for name, text in meanings.items())
    return "How sure the teacher is", ("Per view", "Mean", "10 %", "Median", "90 %"), rows


def _classes(figures: Figures) -> Table | None:
    classes = figures["classes"]
    if not classes["labelled"]:
        return None
    best, worst = classes["best"][:CLASSES_NAMED], classes["worst"][:CLASSES_NAMED]
    listed = [*best, *(each for each in reversed(worst) if each not in best)]
    rows = tuple(
        (each["name"], _percent(each["top1"]), _percent(each["top5"]), f"{each['labelled']:,}", f"{each['best']:,}")
        for each in listed
    )
    caption = (
        "The classes that the teacher knows best, and those that it knows worst, of "
        f"{classes['labelled']:,} that labels name"
    )
    return caption, ("Class of the label", "Top-1", "Top-5", "Views", "Best class of"), rows


def _bytes(figures: Figures) -> Table | None:
    fields = figures["bytes"]["fields"]
    packed = sum(each["packed"] for each in fields)
    if not packed:
        return None
    rows = tuple(
        (each["field"], f"{each['raw']:.2f}", f"{each['packed']:.2f}", _percent(each["packed"] / packed))
        for each in fields
    )
    return (
        f"Bytes per record, in {counted(figures['bytes']['measured_blocks'], 'block')}",
        ("Field", "Before compression", "Compressed by itself", "Share"),
        rows,
    )


def _fraction(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def store_charts(stores: Mapping[int, Figures]) -> tuple[Chart, ...]:
    """Charts in which stores can be compared; those of which no store has anything are left out.

    Args:
        stores: figures by number of the store among the page's sources.
    """
    charts = {
        "kept": (Figure("Probability that the K best classes keep", "%"), "K", _kept),
        "confidence": (
            Figure("Views by probability of the best class", "%"),
            "probability of the best class, %",
            _sure,
        ),
        "calibration": (
            Figure("How often the best class is the label", "%"),
            "probability of the best class, %",
            _calibrated,
        ),
        "views": (Figure("Agreement with labels by view", "%"), "number of the view", _by_view),
    }
    found = []
    for name, (shown, axis, points) in charts.items():
        curves = tuple(
            Curve(number, thinned(y, 1), {"x": x})
            for number, figures in stores.items()
            for x, y in [points(figures)]
            if len(x) > 1
        )
        if curves:
            found.append(Chart(f"store-{name}", shown, curves, axis, diagonal=name == "calibration"))
    return tuple(found)


Points = tuple[list[float], list[float | None]]


def _kept(figures: Figures) -> Points:
    levels = [each for each in figures["kept_mass"] if each["mass"] is not None]
    return [float(each["k"]) for each in levels], [100 * each["mass"] for each in levels]


def _sure(figures: Figures) -> Points:
    counts: Sequence[int] = figures["confidence"]["histogram"]
    size = max(1, len(counts) // _CONFIDENCE_STEPS)
    parts = [sum(counts[place : place + size]) for place in range(0, len(counts), size)]
    width, total = 100 / len(parts), sum(counts)
    return [width * (place + 0.5) for place in range(len(parts))], [
        100 * each / total for each in parts
    ] if total else []


def _calibrated(figures: Figures) -> Points:
    bins = [each for each in (figures["calibration"] or {"bins": []})["bins"] if each["views"]]
    return [100 * each["confidence"] for each in bins], [100 * each["top1"] for each in bins]


def _by_view(figures: Figures) -> Points:
    views = [each for each in figures["by_view"] if each["agreement"] is not None]
    return [float(each["view"]) for each in views], [100 * each["agreement"]["top1"] for each in views]
