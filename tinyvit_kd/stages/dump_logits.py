"""Stage one, ``dump-logits``: the teacher sees every view once, and its top-k probabilities are kept in a store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tinyvit_kd.batches.dump_batches import DumpBatch, DumpBatches
from tinyvit_kd.batches.dump_tasks import Group, claim_groups, groups_of, tasks_of
from tinyvit_kd.batches.sample_views import SampleViews, sample_name
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.data.transfer import to_host
from tinyvit_kd.models.teacher import Teacher, build_teacher, topk_probs
from tinyvit_kd.runs.block_writer import BlockWriter
from tinyvit_kd.runs.blocks_left import blocks_left
from tinyvit_kd.runs.new_store import check_topk, create_store, dump_precision
from tinyvit_kd.runs.open_shards import open_shards
from tinyvit_kd.runs.second_teacher import FirstTeacher, adopt_views, open_first_teacher
from tinyvit_kd.runs.store_agreement import check_views, require_same_as_stored
from tinyvit_kd.runtime.compiling import compile_network
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import progress_bar, say, say_any_rank
from tinyvit_kd.runtime.signals import raise_if_stopped
from tinyvit_kd.store.records import RecordStatus
from tinyvit_kd.store.store import LogitStore

REPORT_EVERY = 60.0  # seconds between lines of progress, for logs without a bar
LISTED_HOLES = 20  # samples that each process names on the terminal; the store has all of them

Hole = tuple[int, int, RecordStatus]  # shard, index, reason


def dump_logits(config: DumpConfig, job: Job, part: tuple[int, int] = (1, 1)) -> dict[str, float]:
    """Make the missing blocks of a store.

    Args:
        part: (i, n) takes the i-th of n parts of the shards, for jobs that do not know of each other.

    Returns:
        views made, holes among them, seconds, and views per second over all processes.

    Raises:
        ConfigError, StoreError, ShardError, DiskSpaceError: before the teacher's first pass.
        ReplayError: a view differs from the one in the store or, with ``views_from``, from the one that the other
            teacher saw.
        WorkerError: blocks are missing at the end, though all have been made.
        Preempted: under the command line, a signal asked to stop; the blocks that were complete are in the store.
    """
    dump = _open_dump(config, job, part)
    # Left behind by killed dumps. Files of dumps that are running now will have their final names when this one ends.
    unfinished = dump.store.unfinished(dump.own_shards) if job.is_main else []
    missing = job.broadcast(dump.missing_blocks())
    if missing:
        require_same_as_stored(dump.samples, dump.store, dump.present_blocks(missing))
    groups = dump.groups(missing)
    views = sum(len(group.views) * group.samples for group in groups)
    _report_start(dump, len(missing), views)
    begin = time.perf_counter()
    counts = job.sum(_make_blocks(dump, groups, views))
    for left in blocks_left(dump.missing_blocks, job, dump.store.where):
        again = dump.groups(left)
        counts += job.sum(_make_blocks(dump, again, sum(len(group.views) * group.samples for group in again)))
    made, holes = counts.tolist()
    dump.store.remove_leftovers(unfinished)
    seconds = max(time.perf_counter() - begin, 1e-9)
    say(job, f"made {made:,} views, {holes:,} of them holes, at {made / seconds:,.0f} views/s")
    return {"views": made, "holes": holes, "seconds": seconds, "views_per_second": made / seconds}


@dataclass(frozen=True)
class _Dump:
    """Everything that a dump works with, opened and checked.

    Attributes:
        first_teacher: the teacher whose views this one is shown, with ``views_from``; else None.
        own_shards: the shards whose blocks this job makes.
    """

    config: DumpConfig
    job: Job
    samples: SampleViews
    first_teacher: FirstTeacher | None
    teacher: Teacher
    own_shards: range
    store: LogitStore

    def missing_blocks(self) -> list[tuple[int, int]]:
        """(shard, view) of the blocks that this job has to make."""
        return [block for block in self.store.missing_blocks() if block[0] in self.own_shards]

    def present_blocks(self, missing: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """(shard, view) of the blocks of this job that are in the store."""
        return (block for block in self.store.present_blocks(missing) if block[0] in self.own_shards)

    def groups(self, missing: list[tuple[int, int]]) -> list[Group]:
        """The missing blocks, in groups that are made together."""
        pairs_seed = self.config.store.seed if self.config.views.mixes else None
        lengths = self.samples.reader.shards.lengths.tolist()
        return groups_of(missing, lengths, self.config.views_per_decode, pairs_seed)


def _open_dump(config: DumpConfig, job: Job, part: tuple[int, int]) -> _Dump:
    first_store: LogitStore | None = None
    if config.views_from is None:
        check_views(config.views, job)
    else:
        config, first_store = adopt_views(config, config.views_from, job)
    shards = open_shards(config.shards, job, config.runtime)
    samples = SampleViews(shards.reader(), config.views, config.store.seed)
    first_teacher = None if first_store is None else _open_first_teacher(config, first_store, samples.reader, job)
    teacher = build_teacher(config.teacher, job.device, dump_precision(config, job), config.runtime.channels_last)
    if config.runtime.compile:
        compile_network(teacher.network, job)
    check_topk(config, teacher)
    number, parts = part
    own_shards = range(number - 1, len(shards.names), parts)
    store = create_store(config, teacher, shards, job, own_shards)
    return _Dump(config, job, samples, first_teacher, teacher, own_shards, store)


def _open_first_teacher(config: DumpConfig, store: LogitStore, reader: ShardReader, job: Job) -> FirstTeacher:
    first_teacher = open_first_teacher(store, reader)
    complete = store.complete_views()
    if complete < config.store.views:
        say(job, f"only {complete} views are complete in {store.where}: others are compared only where it has them")
    return first_teacher


def _report_start(dump: _Dump, missing: int, views: int) -> None:
    config = dump.config
    facts = dump.teacher.facts
    shards = dump.samples.reader.shards
    say(
        dump.job,
        f"dump-logits → {config.store.path}: {facts.name}, top {config.store.topk} of {facts.num_classes} classes; "
        f"{missing:,} of {len(shards.names) * config.store.views:,} blocks missing here, {views:,} views "
        f"of {shards.total:,} samples, on {dump.job.world_size} process(es)",
    )


def _make_blocks(dump: _Dump, groups: list[Group], views: int) -> torch.Tensor:
    """Make this process's share of the groups.

    Args:
        views: number of views in all groups.

    Returns:
        int64 [2]: the number of views made, and of holes among them.
    """
    config = dump.config
    job = dump.job
    batch_maker = DumpBatches(dump.samples, config.on_bad_image, config.batch_size)
    tasks = tasks_of(claim_groups(groups, job.counter()), config.batch_size)
    progress = _Progress(job, dump.samples.reader, views)
    # No signal is caught here: whatever it interrupts, the blocks that were complete are in the store.
    with (
        loading(batch_maker, tasks, config.runtime, job.device) as batches,
        BlockWriter(dump.store, config.store.topk, config.runtime.data_timeout, dump.first_teacher) as writer,
        progress_bar(job, views, "view", label="dump-logits") as bar,
    ):
        for batch in batches:
            raise_if_stopped()
            with torch.inference_mode():
                answers = topk_probs(dump.teacher(batch.views), config.store.topk)
            writer.submit(batch, to_host(answers))
            progress.add(batch)
            bar.update(len(batch.status) * job.world_size)  # the other processes are about as far
    return torch.tensor([progress.made, progress.holes])


class _Progress:
    """Counts this process's views and holes, names the first holes, and prints a line of progress every minute.

    Args:
        views: number of views that all processes make together.
    """

    def __init__(self, job: Job, reader: ShardReader, views: int) -> None:
        self.made = 0
        self.holes = 0
        self._job = job
        self._reader = reader
        self._views = views
        self._named = 0
        self._begin = time.perf_counter()
        self._reported = self._begin

    def add(self, batch: DumpBatch) -> None:
        """Count the views of a batch, and print what there is to say."""
        holes = list(_holes(batch))
        self.made += len(batch.status)
        self.holes += len(holes)
        self._name(holes)
        now = time.perf_counter()
        if now - self._reported > REPORT_EVERY:
            self._reported = now
            share = self.made * self._job.world_size / self._views
            rate = self.made / (now - self._begin)
            say(self._job, f"about {share:.1%} of {self._views:,} views, {rate:,.0f} views/s per process")

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
