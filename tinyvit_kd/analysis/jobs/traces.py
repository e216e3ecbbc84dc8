"""What jobs leave beside their figures: how they were started, their last words, what finished dumps keep."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinyvit_kd.analysis.jobs.liveness import end_of
from tinyvit_kd.analysis.jobs.part_status import dump_parts, files_beside
from tinyvit_kd.analysis.jobs.run_folder import read_results
from tinyvit_kd.runs.attempts import Attempt, read_attempts
from tinyvit_kd.runs.run_files import ATTEMPTS, LOG, RESULTS

TAIL = 8  # lines of a log


def attempts_of(run: Path) -> tuple[Attempt, ...]:
    """The starts of a run; none of an old one, which did not keep them."""
    return tuple(read_attempts(run / ATTEMPTS))


def last_lines(run: Path) -> tuple[str, ...]:
    """The last lines of a run's log; none where there is no log that can be read."""
    return tuple(end_of(run / LOG).splitlines()[-TAIL:])


def dump_results(store: str) -> tuple[dict[str, Any], ...]:
    """What finished dumps have kept beside a store, one for each part."""
    found = map(read_results, results_files(store))
    return tuple(each for each in found if each is not None)


def results_files(store: str) -> list[Path]:
    """Where dumps keep their results beside a store, one file for each part; of a store at a URL, copies."""
    return [files[0] for files in files_beside(store, dump_parts(store), (RESULTS,))]
