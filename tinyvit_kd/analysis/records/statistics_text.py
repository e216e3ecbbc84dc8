"""The statistics of a store as text, for people."""

from __future__ import annotations

import math
from typing import Any

from tinyvit_kd.runtime.wording import binary_size, counted, printable, table

NAMED = 5  # classes that are named at each end
VIEWS_LISTED = 12  # view numbers that have a line of their own
Tree = dict[str, Any]


def describe(figures: Tree) -> str:
    """The figures as a few tables.

    Args:
        figures: as ``StoreStatistics.as_dict`` gives them.
    """
    parts = [
        _overview(figures),
        _spreads(figures),
        _levels(figures),
        _views(figures),
        _classes(figures),
        _calibration(figures),
        _bytes(figures),
        _unread(figures),
    ]
    return printable("\n\n".join(part for part in parts if part), lines=True)


def _overview(figures: Tree) -> str:
    store, read, between = figures["store"], figures["read"], figures["between_views"]
    holes = figures["holes"]
    rows = {
        "store": f"{store['path']}: {store['teacher']}, top {store['topk']} of {store['num_classes']:,} classes, "
        f"{store['encoding']}",
        "read": _read(read),
        "labels": _labels(figures["labels"]),
        "agreement": _agreement(figures["agreement"]),
        "between views": "not known: no two views of a shard were read"
        if between is None
        else f"{between['same_best']:.1%} of {between['pairs']:,} pairs of views of a sample have the same best class; "
        f"Jensen-Shannon divergence {between['js_divergence'] or 0:.3f} nats of at most {math.log(2):.3f}",
        "holes": _holes(holes),
    }
    if figures["labels"]["mixed"]:
        rows["mixed views"] = (
            "each shows two images: labels are those of the one with the larger weight, and two views of a sample "
            "differ in their partners, too"
        )
    return table([[name, printable(text)] for name, text in rows.items()])  # names could forge lines, too


def _read(read: Tree) -> str:
    of = f"{read['blocks']:,} of {counted(read['present_blocks'], 'block')}, {counted(read['records'], 'record')}"
    sample = f"; a sample, evenly spread (--seed {read['seed']})" if read["is_sample"] else ""
    missing = read["total_blocks"] - read["present_blocks"]
    return of + sample + (f"; {counted(missing, 'block')} not dumped yet" if missing else "")


def _labels(labels: Tree) -> str:
    known = labels["source"] if labels["kind"] == "none" else f"{counted(labels['views'], 'view')}: {labels['source']}"
    some = f", {labels['mixed_views_per_block']} per block" if labels["mixed"] and labels["views"] else ""
    return known + some + (f"; {labels['note']}" if labels["note"] else "")


def _agreement(agreement: Tree | None) -> str:
    if agreement is None:
        return "not known without labels"
    top5 = "" if agreement["top5"] is None else f", and among its five best in {agreement['top5']:.1%}"
    return (
        f"the label is the best class in {agreement['top1']:.1%} of the views{top5}; its mean probability is "
        f"{agreement['label_probability']:.3f}"
    )


def _spreads(figures: Tree) -> str:
    topk, classes = figures["store"]["topk"], figures["store"]["num_classes"]
    largest = figures["entropy"]["largest"]
    meanings = {
        "confidence": "probability of the best class",
        "residual": f"probability outside the top {topk}",
        "entropy": f"nats, at most {largest:.2f}: of all {classes:,} classes, the residual spread evenly over the rest",
    }
    rows = [["per view", "mean", "10 %", "median", "90 %"]]
    for name, meaning in meanings.items():
        values = (_fraction(figures[name][each]) for each in ("mean", "p10", "p50", "p90"))
        rows.append([name, *values, meaning])
    return table(rows, right=range(1, 5))


def _holes(holes: Tree) -> str:
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(holes["reasons"].items()))
    return f"{holes['holes']:,} of {counted(holes['samples'], 'sample')}" + (f" ({reasons})" if reasons else "")


def _levels(figures: Tree) -> str:
    kept = figures["kept_mass"]
    rows = [["K", *(f"{each['k']:,}" for each in kept)], ["kept", *(_fraction(each["mass"]) for each in kept)]]
    return f"probability that the K best classes have together\n{table(rows, right=range(1, len(kept) + 1))}"


def _fraction(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _views(figures: Tree) -> str:
    views = figures["by_view"]
    if len(views) < 2:
        return ""
    rows = [["view", "records", "top-1", "top-5", "confidence", "entropy", "residual"]]
    for each in views[:VIEWS_LISTED]:
        agreement = each["agreement"] or {"top1": None, "top5": None}
        means = (_fraction(each[name]) for name in ("confidence", "entropy", "residual"))
        rows.append(
            [
                str(each["view"]),
                f"{each['records']:,}",
                _percent(agreement["top1"]),
                _percent(agreement["top5"]),
                *means,
            ]
        )
    more = f"\n… and {len(views) - VIEWS_LISTED:,} more views: --json has all" if len(views) > VIEWS_LISTED else ""
    return table(rows, right=range(7)) + more


def _classes(figures: Tree) -> str:
    classes = figures["classes"]
    lines: list[str] = []
    if classes["labelled"]:
        rows = [["classes of the labels", "top-1", "top-5", "views", "best class of"]]
        ends = {"known best": classes["best"][:NAMED], "known worst": classes["worst"][:NAMED]}
        for heading, listed in ends.items():
            rows += [[heading], *(_class_row(each) for each in listed)]
        lines.append(table(rows, right=(1, 2, 3, 4)))
    for key, text in (
        ("never_best", "never the best class"),
        ("never_best_though_labelled", "never the best class, though labels name them"),
        ("rarely_best", f"rarely the best class (fewer than {classes['rarely_best']['below']:,.1f} views)"),
        ("never_stored", f"never among the top {figures['store']['topk']}"),
    ):
        if key == "rarely_best" and classes[key]["below"] <= 1:  # fewer views than can be counted
            continue
        if classes["labelled"] or key != "never_best_though_labelled":
            lines.append(_named(text, classes[key], figures["store"]["num_classes"]))
    return "\n".join(lines)


def _class_row(told: Tree) -> list[str]:
    views, best = f"{told['labelled']:,}", f"{told['best']:,}"
    return [f"  {printable(told['name'])}", _percent(told["top1"]), _percent(told["top5"]), views, best]


def _named(text: str, found: Tree, num_classes: int) -> str:
    names = ", ".join(printable(each["name"]) for each in found["first"][:NAMED])
    more = ", …" if found["classes"] > NAMED else ""
    return f"{text}: {found['classes']:,} of {num_classes:,} classes" + (f" ({names}{more})" if names else "")


def _calibration(figures: Tree) -> str:
    found = figures["calibration"]
    if found is None:
        return ""
    rows = [["probability of the best class", "views", "mean", "is the label"]]
    for each in found["bins"]:
        if each["views"]:
            name = f"{each['from']:.1f} to {each['to']:.1f}"
            rows.append([name, f"{each['views']:,}", _fraction(each["confidence"], 3), _percent(each["top1"])])
    return f"{table(rows, right=(1, 2, 3))}\nexpected calibration error {found['expected_error']:.3f}"


def _bytes(figures: Tree) -> str:
    found = figures["bytes"]
    if found["per_record"] is None:
        return ""
    packed = sum(each["packed"] for each in found["fields"])
    rows = [["bytes per record", "before zstd", "packed alone", "share"]]
    for each in found["fields"]:
        share = _percent(each["packed"] / packed)
        rows.append([each["field"], f"{each['raw']:.2f}", f"{each['packed']:.2f}", share])
    rows.append(["all", f"{sum(each['raw'] for each in found['fields']):.2f}", f"{packed:.2f}", "100.0%"])
    size = binary_size(found["complete_store"])
    return (
        f"{table(rows, right=(1, 2, 3))}\n"
        f"{found['per_record']:.2f} bytes per record in the files, of {counted(found['measured_blocks'], 'block')}; "
        f"at that the complete store has about {size}"
    )


def _unread(figures: Tree) -> str:
    read = figures["read"]
    if not read["unread_blocks"]:
        return ""
    first = read["unread"][0]
    return (
        f"left out, because they are damaged or cannot be read: {counted(read['unread_blocks'], 'block')}, the first "
        f"is {first['block']} ({first['what']}); store check names all"
    )
