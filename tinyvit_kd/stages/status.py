"""``status``: how far runs, dumps and searches are, from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tinyvit_kd.analysis.jobs.folders import find_places, find_searches
from tinyvit_kd.analysis.jobs.liveness import ending_by_log
from tinyvit_kd.analysis.jobs.part_status import dump_parts, stores_begun
from tinyvit_kd.analysis.jobs.run_folder import is_run_folder
from tinyvit_kd.analysis.jobs.run_status import run_status
from tinyvit_kd.analysis.jobs.status_text import Status
from tinyvit_kd.analysis.jobs.status_text import describe as describe
from tinyvit_kd.analysis.jobs.store_status import part_alone, store_status
from tinyvit_kd.contraction.search_files import logs
from tinyvit_kd.contraction.search_status import SearchStatus, search_status
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.storage.copies import local_path


def status(paths: Sequence[str], now: float, part: tuple[int, int] | None = None) -> list[Status]:
    """Look at the runs, stores and searches at some paths, and below folders that are none of these.

    Args:
        now: Unix time, seconds.
        part: of the dumps into the stores at these paths, which are looked at alone: (i, n); None: all that is there.

    Raises:
        ConfigError: there is no such path, or no run, store or search at it or below it, or no such part.
    """
    if part is not None:
        return [part_alone(path, part, now) for path in paths]
    return [each for path in paths for each in _at(path, now)]


def _at(path: str, now: float) -> list[Status]:
    local = local_path(path)
    if (local is None or not local.exists()) and not is_run_folder(path) and dump_parts(path):
        return [store_status(path, now)]  # a store at a URL, or a dump that has not come to making its store
    begun, searches = stores_begun(path), find_searches([path])
    try:
        places = find_places([path])
    except ConfigError:
        if not begun and not searches:
            raise
        places = []
    found: list[Status] = [
        run_status(place.path, now) if place.is_run else store_status(place.path, now) for place in places
    ]
    return [*found, *(store_status(each, now) for each in begun), *(_search(each, now) for each in searches)]


def _search(path: str, now: float) -> SearchStatus:
    found, written = search_status(path, now), logs(Path(path))
    ended = ending_by_log(written[-1]) if written and found.state in ("killed", "silent") else None
    return found if ended is None else replace(found, state=ended[0], message=ended[1])


def is_stale(each: Status, seconds: float) -> bool:
    """Whether a job has not finished, and has shown no sign of life for longer than this."""
    return each.state != "finished" and (each.age is None or each.age > seconds)
