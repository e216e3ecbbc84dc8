"""``report``: runs and stores as one HTML file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from tinyvit_kd import __version__
from tinyvit_kd.analysis.folders import Place, find_places
from tinyvit_kd.analysis.run_folder import RunFolder, read_run
from tinyvit_kd.errors import TinyVitKdError
from tinyvit_kd.reports.assets import require_plotly
from tinyvit_kd.reports.content import Report, ReportedRun, labels
from tinyvit_kd.reports.html_page import html_page
from tinyvit_kd.reports.words import moment
from tinyvit_kd.runtime.files import atomic_write


def report(paths: Sequence[str], output: Path, title: str | None = None) -> str:
    """Write a report.

    Args:
        paths: of runs, stores, and folders that hold some.
        output: the file to write; one that is there is replaced.
        title: of the page; None: made from the names of what is in it.

    Returns:
        what was written, in a line.

    Raises:
        ConfigError: plotly is not installed, or a path holds neither a run nor a store.
    """
    require_plotly()
    places = find_places(paths)
    names = labels([each.path for each in places])
    runs = []
    for place, name in zip(places, names, strict=True):
        if place.is_run:
            f = read_run(Path(place.path))
            runs.append(ReportedRun(name, f, "finished" if f.summary else "not finished", (f.summary or {}).get("step")))
    r = Report(title or ", ".join(names), f"Made {moment(time.time())} with tinyvit_kd {__version__}.", tuple(runs))
    atomic_write(output, html_page(r).encode())
    return str(output)
