"""What jobs leave beside their figures: how they were started, their last words, what finished dumps keep."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tinyvit_kd.analysis.jobs.part_status import dump_parts
from tinyvit_kd.analysis.jobs.run_folder import read_results
from tinyvit_kd.runs.attempts import Attempt, read_attempts
from tinyvit_kd.runs.run_files import ATTEMPTS, LOG, RESULTS, beside_store

TAIL = 8  # lines of a log
_TAIL_BYTES = 1 << 14


def attempts_of(run: Path) -> tuple[Attempt, ...]:
    """The starts of a run; none of an old one, which did not keep them."""
    return tuple(read_attempts(run / ATTEMPTS))


def last_lines(run: Path) -> tuple[str, ...]:
    """The last lines of a run's log; none where there is no log that can be read."""
    try:
        with (run / LOG).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple(lines[-TAIL:])


def dump_results(store: str) -> tuple[dict[str, Any], ...]:
    """What finished dumps have kept beside a store, one for each part; none beside a URL."""
    places = (beside_store(store, RESULTS, part) for part in dump_parts(store))
    found = (read_results(place) for place in places if place is not None)
    return tuple(each for each in found if each is not None)
