"""``compare``: what differs between runs' recipes, beside what differs between their results."""

from __future__ import annotations

from collections.abc import Sequence

from tinyvit_kd.analysis.jobs.compared import Compared, compare_runs
from tinyvit_kd.analysis.jobs.compared_text import describe as describe
from tinyvit_kd.analysis.jobs.folders import find_places
from tinyvit_kd.errors import ConfigError


def compare(paths: Sequence[str], now: float) -> Compared:
    """Compare the runs at some paths, and below folders that are none; stores only where they were named.

    Args:
        now: Unix time, seconds.

    Raises:
        ConfigError: there is no such path, nothing to compare at it, or only one thing.
    """
    places = [place for place in find_places(paths) if place.is_run or place.named]
    if len(places) < 2:
        raise ConfigError(
            "there is nothing to compare with",
            where=", ".join(paths),
            found="no run" if not places else f"{places[0].path} alone",
            expected="two runs at least, or a folder that holds some; stores have to be named",
        )
    return compare_runs([(place.path, place.is_run) for place in places], now)
