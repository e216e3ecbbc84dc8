"""What a dump reports while it runs: views, rate, time left, holes, and how good its teacher is."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tinyvit_kd.batches.dump_batches import DumpBatch
from tinyvit_kd.batches.sample_views import sample_name
from tinyvit_kd.data.shard_reader import ShardReader
from tinyvit_kd.runs.dump_quality import DumpQuality
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say, say_any_rank
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.wording import duration
from tinyvit_kd.store.records import RecordStatus

FIRST_REPORT = 8.0  # seconds until the first line of progress, for logs without a bar
REPORT_EVERY = 25.0  # seconds between lines, so that nothing else has to be said (see runtime.heartbeat)
LISTED_HOLES = 20  # samples that each process names on the terminal; the store has all of them

Hole = tuple[int, int, RecordStatus]  # shard, index, reason


class DumpProgress:
    """Counts this process's views and holes, names the first holes, and prints lines of progress.

    Args:
        views: number of views that all processes make together.
        quality: how good this process's teacher is so far.
        progress: of the whole dump, with those views that the store has already.
    """

    def __init__(self, job: Job, reader: ShardReader, views: int, quality: DumpQuality, progress: Progress) -> None:
        self.made = 0
        self.holes = 0
        self._job = job
        self._reader = reader
        self._views = views
        self._quality = quality
        self._progress = progress
        self._before = progress.done
        self._named = 0
        self._begin = self._last = time.perf_counter()
        self._next_report = self._begin + FIRST_REPORT

    def add(self, batch: DumpBatch) -> None:
        """Count the views of a batch, and print what there is to say."""
        holes = list(_holes(batch))
        self.made += len(batch.status)
        self.holes += len(holes)
        self._name(holes)
        self._quality.complain(self._job, self._quality.so_far)
        now = time.perf_counter()
        self._progress.pace.made(len(batch.status) * self._job.world_size, now - self._last)
        self._progress.done = self._before + self._made_by_all
        self._last = now
        if now >= self._next_report:
            self._next_report = now + REPORT_EVERY
            say(self._job, self._line(now - self._begin))

    @property
    def _made_by_all(self) -> int:
        """As far as this process knows: the others are about as far."""
        return min(self.made * self._job.world_size, self._views)

    def _line(self, seconds: float) -> str:
        """Progress of the whole job."""
        made = self._made_by_all
        rate = made / max(seconds, 1e-9)
        line = (
            f"about {made / self._views:.1%} of {self._views:,} views, {rate:,.0f} views/s, "
            f"{duration((self._views - made) / rate)} left"
        )
        quality = self._quality.so_far
        return f"{line}; {quality.describe(self._quality.topk)}" if quality.views else line

    def _name(self, holes: list[Hole]) -> None:
        """Print one line per sample, and no more than ``LISTED_HOLES`` in all."""
        samples = list(dict.fromkeys(holes))[: LISTED_HOLES - self._named]
        for shard, index, reason in samples:
            name = sample_name(self._reader, shard, index)
            say_any_rank(self._job, f"hole: {name} is {reason.name.lower().replace('_', ' ')}")
        self._named += len(samples)
        if samples and self._named == LISTED_HOLES:
            say_any_rank(self._job, "hole: further holes are not named here; store info --holes lists all")


def _holes(batch: DumpBatch) -> Iterator[Hole]:
    """The holes among the views of a batch, one per view."""
    if not batch.status.any():
        return
    row = 0
    for span in batch.task:
        for index in span.indexes.tolist():
            for _ in span.group.views:
                if batch.status[row] != RecordStatus.VALID:
                    yield span.group.shard, index, RecordStatus(int(batch.status[row]))
                row += 1
