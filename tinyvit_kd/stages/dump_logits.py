"""Stage one, ``dump-logits``: the teacher sees every view once, and its top-k probabilities are kept in a store."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tinyvit_kd.analysis.jobs.parts_before import require_parts_as_before
from tinyvit_kd.batches.dump_batches import DumpBatches
from tinyvit_kd.batches.dump_tasks import Groups, claim_groups, tasks_of
from tinyvit_kd.batches.sample_views import SampleViews
from tinyvit_kd.batches.shards_ahead import groups_with_shards
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.data.transfer import to_host
from tinyvit_kd.models.teacher import Teacher, build_teacher, topk_probs
from tinyvit_kd.runs.attempts import attempting
from tinyvit_kd.runs.block_writer import BlockWriter
from tinyvit_kd.runs.blocks_left import blocks_left
from tinyvit_kd.runs.cached_shards import say_cached
from tinyvit_kd.runs.dump_mirror import dump_mirror
from tinyvit_kd.runs.dump_progress import DumpProgress
from tinyvit_kd.runs.dump_quality import DumpQuality, keep_labels
from tinyvit_kd.runs.known_labels import known_labels
from tinyvit_kd.runs.new_store import check_topk, create_store, dump_precision, teacher_classes
from tinyvit_kd.runs.open_shards import open_shards
from tinyvit_kd.runs.request_figures import told_requests
from tinyvit_kd.runs.restricted_classes import restricted
from tinyvit_kd.runs.results import write_dump_results
from tinyvit_kd.runs.run_files import ATTEMPTS
from tinyvit_kd.runs.run_log import dump_log
from tinyvit_kd.runs.run_progress import dump_progress
from tinyvit_kd.runs.second_teacher import FirstTeacher, adopt_views, open_first_teacher, other_classes
from tinyvit_kd.runs.store_agreement import check_views, require_same_as_stored
from tinyvit_kd.runs.teacher_report import teacher_lines
from tinyvit_kd.runs.work_folder import dump_path
from tinyvit_kd.runtime import request_counts
from tinyvit_kd.runtime.compiling import compiler_of
from tinyvit_kd.runtime.device_report import say_device
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import progress_bar, say
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.runtime.signals import raise_if_stopped
from tinyvit_kd.runtime.wording import counted
from tinyvit_kd.store.store import LogitStore


def dump_logits(
    config: DumpConfig, job: Job, part: tuple[int, int] = (1, 1), splits_anew: bool = True
) -> dict[str, float]:
    """Make the missing blocks of a store.

    Args:
        part: (i, n) takes the i-th of n parts of the shards, for jobs that do not know of each other.
        splits_anew: n may be another number than before; otherwise that is refused.

    Returns:
        views made, holes among them, seconds, and views per second over all processes; of these views' answers, or of
        some that the store has where none were made, the mean probability of the best class and outside of the top K
        and, where labels are known, how many percent of the best classes are the label.

    Raises:
        ConfigError, StoreError, ShardError, DiskSpaceError: before the teacher's first pass.
        ReplayError: a view differs from the one in the store or, with ``views_from``, from the one that the other
            teacher saw.
        WorkerError: blocks are missing at the end, though all have been made.
        Preempted: under the command line, a signal asked to stop; the blocks that were complete are in the store.
    """
    if not splits_anew:
        require_parts_as_before(config.store.path, part)
    kept = dump_path(config, ATTEMPTS, part) if job.is_main else None
    with (
        dump_mirror(config, part, job),
        dump_log(config, part, job),
        dump_progress(config, part, job) as progress,
        attempting(kept, job.world_size) as attempts,
    ):
        dump = _open_dump(config, job, part, progress)
        figures = _dump_logits(dump)
        write_dump_results(config, part, dump.store, dump.shards, figures, job, attempts)
        return figures


def _dump_logits(dump: _Dump) -> dict[str, float]:
    """Make the missing blocks of this job's part; returns what ``dump_logits`` does."""
    config, job, progress, begun = dump.config, dump.job, dump.progress, request_counts.total()
    # Left behind by killed dumps. Files of dumps that are running now will have their final names when this one ends.
    unfinished = dump.store.unfinished(dump.own_shards) if job.is_main else []
    with saying("listing the store's blocks"):
        missing = job.broadcast(dump.missing_table() if job.is_main else None)
    count = int(missing.sum())
    if count:
        with saying("making some of the store's views again, to compare them"):
            require_same_as_stored(dump.samples, dump.store, dump.present_blocks(missing))
    groups = dump.groups(missing)
    _report_start(dump, count, groups.views)
    if count:
        dump.teacher.warm_up(dump.config.batch_size, dump.config.views.size)
        say_device(dump.teacher.compiler, dump.teacher.network, dump.teacher.precision)
    progress.enter("running")
    begin = time.perf_counter()
    counts = job.sum(_make_blocks(dump, groups))
    for left in blocks_left(dump.missing_table, job, dump.store.where):
        counts += job.sum(_make_blocks(dump, dump.groups(left)))
    made, holes = counts.tolist()
    dump.store.remove_leftovers(unfinished)
    seconds = max(time.perf_counter() - begin, 1e-9)
    quality = dump.quality.total(job, dump.store)
    told = f"; {quality.describe(config.store.topk)}" if quality.views else ""
    told += told_requests(job, begun)
    done = (
        f"made {made:,} views, {holes:,} of them holes, at {made / seconds:,.0f} views/s" if made else "nothing to make"
    )
    say(job, f"{done}{told}")
    say_cached(dump.shards, job)
    dump.quality.complain(job, quality)
    progress.enter("finished", f"{done}{told}")
    figures = {"views": made, "holes": holes, "seconds": seconds, "views_per_second": made / seconds}
    return figures | quality.results()


@dataclass(frozen=True)
class _Dump:
    """Everything that a dump works with, opened and checked.

    Attributes:
        first_teacher: the teacher whose views this one is shown, with ``views_from``; else None.
        own_shards: the shards whose blocks this job makes.
        quality: how good the teacher's answers are.
        progress: how far all of this job's views are.
    """

    config: DumpConfig
    job: Job
    shards: ShardSet
    samples: SampleViews
    first_teacher: FirstTeacher | None
    teacher: Teacher
    own_shards: range
    store: LogitStore
    quality: DumpQuality
    progress: Progress

    @property
    def views(self) -> int:
        """Views that this job has to make, those included that the store has already."""
        lengths = self.shards.lengths[self.own_shards.start :: self.own_shards.step]
        return int(lengths.sum()) * self.config.store.views

    def missing_table(self) -> npt.NDArray[np.bool_]:
        """Which blocks this job has to make: bool [shards, views]."""
        return self.store.missing_table(shards=self.own_shards)

    def present_blocks(self, missing: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
        """(shard, view) of the blocks of this job that are in the store."""
        return (block for block in self.store.present_blocks(missing) if block[0] in self.own_shards)

    def groups(self, missing: npt.NDArray[np.bool_]) -> Groups:
        """The missing blocks, in groups that are made together."""
        pairs_seed = self.config.store.seed if self.config.views.mixes else None
        lengths = self.shards.lengths.tolist()
        return Groups(missing, lengths, self.config.views_per_decode, pairs_seed, self.config.block_order)


def _open_dump(config: DumpConfig, job: Job, part: tuple[int, int], progress: Progress) -> _Dump:
    first_store: LogitStore | None = None
    if config.views_from is None:
        check_views(config.views, job)
    else:
        config, first_store = adopt_views(config, config.views_from, job)
    shards = open_shards(config.shards, job, config.runtime)
    samples = SampleViews(shards.reader(), config.views, config.store.seed)
    first_teacher = None if first_store is None else _open_first_teacher(config, first_store, shards, job)
    compiler, precision = compiler_of(config.runtime, job), dump_precision(config, job)
    with saying("building the teacher"):
        teacher = build_teacher(
            config.teacher, job.device, precision, config.runtime.channels_last, compiler, restricted
        )
    check_topk(config, teacher)
    number, parts = part
    own_shards = range(number - 1, len(shards.names), parts)
    classes = teacher_classes(config, teacher)
    if first_store is not None and (told := other_classes(first_store, teacher.facts.num_classes, classes)):
        say(job, told)
    labels = known_labels(shards, classes, teacher.facts.num_classes)
    for line in teacher_lines(config.teacher, teacher, config.views.size, classes.name if classes else None, labels):
        say(job, line)
    with saying(f"opening {config.store.path}"):
        store = create_store(config, teacher, classes, shards, job, own_shards)
    if job.is_main:
        keep_labels(store, labels)
    quality = DumpQuality(config, labels)
    return _Dump(config, job, shards, samples, first_teacher, teacher, own_shards, store, quality, progress)


def _open_first_teacher(config: DumpConfig, store: LogitStore, shards: ShardSet, job: Job) -> FirstTeacher:
    first_teacher = open_first_teacher(store, shards)
    complete = store.complete_views()
    if complete < config.store.views:
        say(job, f"only {complete} views are complete in {store.where}: others are compared only where it has them")
    return first_teacher


def _report_start(dump: _Dump, missing: int, views: int) -> None:
    config = dump.config
    facts = dump.teacher.facts
    shards = dump.shards
    say(
        dump.job,
        f"dump-logits → {config.store.path}: {facts.name}, top {config.store.topk} of {facts.num_classes} classes; "
        f"{missing:,} of {len(shards.names) * config.store.views:,} blocks missing here, {views:,} views "
        f"of {shards.total:,} samples, on {counted(dump.job.world_size, 'process')}",
    )


def _make_blocks(dump: _Dump, groups: Groups) -> torch.Tensor:
    """Make this process's share of the groups.

    Returns:
        int64 [2]: the number of views made, and of holes among them.
    """
    config = dump.config
    job = dump.job
    views = groups.views
    shards = dump.shards
    batch_maker = DumpBatches(dump.samples, config.on_bad_image, config.batch_size)
    progress = dump.progress
    progress.pace.expect(dump.views)
    progress.done = dump.views - views
    told = DumpProgress(job, dump.samples.reader, views, dump.quality, progress)
    # No signal is caught here: whatever it interrupts, the blocks that were complete are in the store.
    claimed = claim_groups(groups, job.counter())
    with (
        groups_with_shards(shards, claimed, config.runtime, config.batch_size) as groups_here,
        loading(batch_maker, tasks_of(groups_here, config.batch_size), config.runtime, job.device) as batches,
        BlockWriter(dump.store, config.store.topk, config.runtime.data_timeout, dump.first_teacher) as writer,
        progress_bar(
            job, dump.views, "view", initial=progress.done, label="dump-logits", about=lambda: progress.figures("view")
        ) as bar,
    ):
        for batch in batches:
            raise_if_stopped()
            dump.teacher.compiler.begin_step()
            with dump.teacher.compiler.without_gradients():
                answers = topk_probs(dump.teacher(batch.views), config.store.topk)
            writer.submit(batch, dump.quality.noting(batch, to_host(answers)))
            told.add(batch)
            bar.update(len(batch.status) * job.world_size)  # the other processes are about as far
    job.barrier()  # the last blocks of one process may take hours
    return torch.tensor([told.made, told.holes])
