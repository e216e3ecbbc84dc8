"""Stage one, ``dump-logits``: the teacher sees every view once, and its top-k probabilities are kept."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from tinyvit_kd.batches.dump import DumpBatch, DumpBatches
from tinyvit_kd.batches.dump_tasks import Group, claim_groups, groups_of, tasks_of
from tinyvit_kd.batches.sample_views import SampleViews, sample_name
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.shards import ShardReader
from tinyvit_kd.data.transfer import to_host
from tinyvit_kd.models.teacher import Teacher, build_teacher, topk_probs
from tinyvit_kd.runs.agreement import check_views, require_same_as_stored
from tinyvit_kd.runs.block_writer import BlockWriter
from tinyvit_kd.runs.new_store import check_dump, create_store
from tinyvit_kd.runs.second_teacher import FirstTeacher, adopt_views, open_first_teacher
from tinyvit_kd.runs.shards import open_shards
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import progress_bar, say, say_any_rank
from tinyvit_kd.runtime.signals import raise_if_stopped
from tinyvit_kd.store.records import RecordStatus
from tinyvit_kd.store.store import LogitStore

SPEAK_EVERY = 60.0  # seconds between lines of progress, for logs without a bar
LISTED_HOLES = 20  # holes named on the terminal; the store knows them all


def dump_logits(config: DumpConfig, job: Job, part: tuple[int, int] = (1, 1)) -> dict[str, float]:
    """Make the missing blocks of a store.

    Args:
        part: (i, n) takes the i-th of n parts of the shards, for jobs that do not know of each other.

    Returns:
        views made, holes among them, seconds, and views a second over all processes.

    Raises:
        ConfigError, StoreError, DiskSpaceError: before the teacher's first pass.
        ReplayError: a view is not the one that the store has, or, with ``views_from``, that the other teacher saw.
        Preempted: under the command line, a signal asked to stop; the blocks that were whole are in the store.
    """
    runtime, other = config.runtime, None
    if config.views_from is not None:
        config, other = adopt_views(config, config.views_from, job)
    else:
        check_views(config.views, job)
    shards = open_shards(config.shards, job, runtime)
    samples = SampleViews(shards.reader(), config.views, config.store.seed)
    first_teacher = None if other is None else open_first_teacher(other, samples.reader)
    if other is not None and (whole := other.complete_views()) < config.store.views:
        say(job, f"only {whole} views are whole in {other.where}: no other is compared with what it has")
    teacher = build_teacher(config.teacher, job.device, runtime.precision, runtime.channels_last)
    if runtime.compile:
        teacher.network.compile()
    check_dump(config, teacher)
    mine = range(part[0] - 1, len(shards.names), part[1])
    store = create_store(config, teacher, shards, job, mine)
    left_behind = store.unfinished(mine) if job.is_main else []
    missing = job.broadcast([block for block in store.missing_blocks() if block[0] in mine])
    if missing:
        require_same_as_stored(samples, store, (block for block in store.present_blocks(missing) if block[0] in mine))
    pairs_seed = config.store.seed if config.views.mixes else None
    groups = groups_of(missing, shards.lengths.tolist(), config.views_per_decode, pairs_seed)
    views = sum(len(group.views) * group.samples for group in groups)
    say(
        job,
        f"dump-logits → {config.store.path}: {teacher.facts.name}, "
        f"top {config.store.topk} of {teacher.facts.num_classes} classes; "
        f"{len(missing):,} of {len(shards.names) * config.store.views:,} blocks missing here, {views:,} views "
        f"of {shards.total:,} samples, on {job.world_size} process(es)",
    )
    begin = time.perf_counter()
    counts = job.sum(_make(config, job, teacher, samples, store, first_teacher, groups, views))
    for name in left_behind:  # by a killed dump: what another was writing at the start has its name by now
        store.storage.remove(name)
    seconds = max(time.perf_counter() - begin, 1e-9)
    made, holes = counts.tolist()
    say(job, f"made {made:,} views, {holes:,} of them holes, at {made / seconds:,.0f} views/s")
    return {"views": made, "holes": holes, "seconds": seconds, "views_per_second": made / seconds}


def _make(
    config: DumpConfig,
    job: Job,
    teacher: Teacher,
    samples: SampleViews,
    store: LogitStore,
    first_teacher: FirstTeacher | None,
    groups: list[Group],
    views: int,
) -> torch.Tensor:
    """Run this process's share of the groups: counts [2] of views made and of holes."""
    make = DumpBatches(samples, config.on_bad_image, config.batch_size)
    tasks = tasks_of(claim_groups(groups, job.counter()), config.batch_size)
    counts, named = torch.zeros(2, dtype=torch.int64), 0
    begin = spoke = time.perf_counter()
    # No signal is caught here: whatever it interrupts, the blocks that were whole are in the store.
    with (
        loading(make, tasks, config.runtime, job.device) as batches,
        BlockWriter(store, config.store.topk, config.runtime.data_timeout, first_teacher) as writer,
        progress_bar(job, views, "view", label="dump-logits") as bar,
    ):
        for batch in batches:
            raise_if_stopped()
            with torch.inference_mode():
                answers = topk_probs(teacher(batch.views), config.store.topk)
            writer.submit(batch, to_host(answers))
            holes = list(_holes(batch))
            named = _name_holes(job, samples.reader, holes, named)
            counts += torch.tensor([len(batch.status), len(holes)])
            bar.update(len(batch.status) * job.world_size)  # the others are about as far
            if time.perf_counter() - spoke > SPEAK_EVERY:
                spoke = time.perf_counter()
                share, rate = int(counts[0]) * job.world_size / views, int(counts[0]) / (spoke - begin)
                say(job, f"about {share:.1%} of {views:,} views, {rate:,.0f} views/s a process")
    return counts


def _holes(batch: DumpBatch) -> Iterator[tuple[int, int, RecordStatus]]:
    """Shard, index and reason of each of a batch's views that is a hole."""
    if not batch.status.any():
        return
    row = 0
    for span in batch.task:
        for index in span.indexes.tolist():
            for _ in span.group.views:
                if batch.status[row] != RecordStatus.VALID:
                    yield span.group.shard, index, RecordStatus(int(batch.status[row]))
                row += 1


def _name_holes(job: Job, reader: ShardReader, holes: list[tuple[int, int, RecordStatus]], named: int) -> int:
    """Name the first holes on the terminal, a line a sample; returns how many have been named."""
    samples = list(dict.fromkeys(holes))[: LISTED_HOLES - named]
    for shard, index, reason in samples:
        say_any_rank(job, f"hole: {sample_name(reader, shard, index)} is {reason.name.lower().replace('_', ' ')}")
    if samples and named + len(samples) == LISTED_HOLES:
        say_any_rank(job, "hole: further ones are not named here; store info --holes lists all")
    return named + len(samples)
