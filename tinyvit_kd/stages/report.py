"""``report``: runs and stores as one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinyvit_kd.analysis.jobs.folders import find_searches
from tinyvit_kd.contraction.search_files import page_path
from tinyvit_kd.errors import ConfigError, reason_of
from tinyvit_kd.reports.assets import assets, require_plotly
from tinyvit_kd.reports.gathering import Asked, gather
from tinyvit_kd.reports.html_page import html_page
from tinyvit_kd.runtime.files import atomic_write
from tinyvit_kd.runtime.log import note
from tinyvit_kd.runtime.wording import binary_size, counted


def report(paths: Sequence[str], output: Path, **asked: Any) -> str:
    """Write a report.

    Args:
        paths: of runs, stores, and folders that hold some.
        output: the file to write; one that is there is replaced.
        asked: what to look at, as ``Asked`` has it.

    Returns:
        what was written, in a line.

    Raises:
        ConfigError: plotly is not installed, a path holds neither a run nor a store, or the file cannot be written.
        StoreError: a store that was named cannot be read.
    """
    require_plotly()
    if output.is_dir():
        raise ConfigError("a report is a file", where=str(output), found="a folder", expected="--output FILE.html")
    page = gather(paths, Asked(**asked))
    for path in find_searches(paths):
        note(f"left out of the report: {path}: a search has a page of its own, {page_path(Path(path))}")
    for path, reason in page.not_read:
        note(f"left out of the report: {path}: {reason}")
    content = html_page(page, assets()).encode()
    try:
        atomic_write(output, content)
    except OSError as error:
        raise ConfigError("the report cannot be written", where=str(output), found=reason_of(error)) from None
    holds = [counted(len(each), noun) for each, noun in ((page.runs, "run"), (page.stores, "store")) if each]
    return f"wrote {output}: {' and '.join(holds)}, {binary_size(len(content))}"
