"""What a report is made of: runs, stores, and what could not be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tinyvit_kd.analysis.jobs.run_folder import RunFolder
from tinyvit_kd.analysis.jobs.run_status import RunStatus
from tinyvit_kd.runs.attempts import Attempt

Plain = Mapping[str, Any]
Figures = Mapping[str, Any]  # of analysis.records.store_statistics
Row = tuple[str, ...]
Table = tuple[str, Row, tuple[Row, ...]]  # caption, head, rows


@dataclass(frozen=True)
class ReportedRun:
    """A run in a report.

    Attributes:
        label: its name in the page, which no other run or store has.
        folder: what is in its folder.
        status: how far it is.
        attempts: its starts; empty for an old one.
        last_lines: of its log; empty for a finished one.
    """

    label: str
    folder: RunFolder
    status: RunStatus
    attempts: tuple[Attempt, ...] = ()
    last_lines: tuple[str, ...] = ()

    @property
    def results(self) -> Plain:
        """``results.json``; of a run that has none, what its attempts tell of it; empty where nothing does."""
        attempts = self.attempts
        if self.folder.results is not None or not attempts:
            return self.folder.results or {}
        last = attempts[-1]
        return {
            "seconds": sum(each.seconds for each in attempts),
            "started": min(each.started for each in attempts),
            "finished": None,
            "attempts": len(attempts),
            "commands": list(dict.fromkeys(each.command for each in attempts)),
            "world_size": last.world_size,
            "machine": {"host": last.host},
            "versions": {"tinyvit_kd": last.version},
        }

    @property
    def recipe(self) -> Plain:
        """Its recipe; empty where none can be read."""
        return self.folder.recipe or {}

    @property
    def has_finished(self) -> bool:
        """Whether it has finished."""
        return self.status.state == "finished"


@dataclass(frozen=True)
class Picture:
    """A sheet of samples.

    Attributes:
        title: what is on it.
        described: the same in words, for those who cannot see it.
        data: the file's bytes.
        kind: such as ``image/jpeg``.
        size: width and height in pixels.
    """

    title: str
    described: str
    data: bytes
    kind: str
    size: tuple[int, int]


@dataclass(frozen=True)
class ReportedStore:
    """A store in a report.

    Attributes:
        label: its name in the page, which no other run or store has.
        where: its path or URL.
        facts: terms and what they are, in order.
        figures: ``StoreStatistics.as_dict()`` of a sample of its blocks; None where none could be read.
        pictures: sheets of its samples.
        notes: what is not known, and why.
        dumps: results of the dumps that wrote it, one per part.
    """

    label: str
    where: str
    facts: tuple[tuple[str, str], ...] = ()
    figures: Figures | None = None
    pictures: tuple[Picture, ...] = ()
    notes: tuple[str, ...] = ()
    dumps: tuple[Plain, ...] = ()


@dataclass(frozen=True)
class Report:
    """All of a page.

    Attributes:
        title: of the page.
        made: when, and with what.
        runs: in the order of their columns.
        stores: likewise; their numbers among the page's sources follow those of the runs.
        not_read: paths that were passed over, with the reason.
        command: that makes this report again.
    """

    title: str
    made: str
    runs: tuple[ReportedRun, ...] = ()
    stores: tuple[ReportedStore, ...] = ()
    not_read: tuple[tuple[str, str], ...] = field(default=())
    command: str = ""

    @property
    def names(self) -> list[str]:
        """Labels of all runs and stores, by their number among the sources."""
        return [*(run.label for run in self.runs), *(store.label for store in self.stores)]
