"""A comparison of runs as one table for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from tinyvit_kd.analysis.jobs.compared import Compared, Values
from tinyvit_kd.analysis.jobs.folders import short_names
from tinyvit_kd.runtime.wording import counted, duration, printable, table

_LONGEST = 30  # letters of a value
_NAMES = {
    "top1": "top-1, %",
    "top5": "top-5, %",
    "mean_per_class": "mean per class, %",
    "images_per_second": "images/s",
}
_NAMES |= {"views_per_second": "views/s", "data_wait": "waiting for data", "seconds": "time, all starts together"}
_HIDDEN = ("lr", "grad_norm", "step_seconds", "class_names_compared")  # --json has them
_FIRST = ("top1", "top5", "mean_per_class", "loss", "images_per_second", "views_per_second", "seconds")


def describe(compared: Compared) -> str:
    """One table: a column per run, rows of what differs, a star at the best value."""
    rows = [["", *short_names(compared.runs)], ["stage", *(each or "?" for each in compared.stages)]]
    rows.append(["state", *compared.states])
    same = counted(compared.settings_in_common, "setting")
    rows += _block(f"recipe ({same} in common)", [(name, _cells(row)) for name, row in compared.settings.items()])
    same = counted(compared.figures_in_common, "figure")
    rows += _block(f"results ({same} in common; * the best)", list(_figures(compared)))
    rows += _block("data", [(name, _cells(row)) for name, row in compared.data.items()])
    surroundings = [(name, _cells(row)) for name, row in compared.surroundings.items()]
    rows += _block("versions and machines", surroundings)
    notes = [f"note: {each}" for each in compared.notes]
    return "\n".join(
        [table([[printable(cell) for cell in row] for row in rows]), *([""] if notes else []), *map(printable, notes)]
    )


def _block(title: str, rows: Sequence[tuple[str, list[str]]]) -> list[list[str]]:
    return [[""], [title], *([f"  {name}", *cells] for name, cells in rows)] if rows else []


def _figures(compared: Compared) -> Iterator[tuple[str, list[str]]]:
    names = [name for name in _FIRST if name in compared.figures]
    names += [name for name, row in compared.figures.items() if name not in (*names, *_HIDDEN) and _is_several(row)]
    for name in names:
        best = compared.best.get(name, ())
        cells = [
            f"{_figure(name, value)}{' *' if number in best else ''}"
            for number, value in enumerate(compared.figures[name])
        ]
        yield _NAMES.get(name, name), cells


def _is_several(row: Values) -> bool:
    return len({value for value in row if value is not None}) > 1


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    if name == "seconds":
        return duration(value)
    if name in ("top1", "top5", "mean_per_class"):
        return f"{value:.2f}"
    if name == "data_wait":
        return f"{value:.1%}"
    return f"{value:,.0f}" if value.is_integer() or abs(value) >= 1000 else f"{value:.4g}"


def _cells(row: Values) -> list[str]:
    return [_cell(value) for value in row]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if len(text) <= _LONGEST:
        return text
    # Paths differ at their ends.
    return f"…{text[1 - _LONGEST :]}" if "/" in text else f"{text[: _LONGEST - 1]}…"
