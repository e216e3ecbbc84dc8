"""Watches the answers of a teacher while they are dumped, and looks at those that a store holds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError

from tinyvit_kd.batches.dump_batches import DumpBatch
from tinyvit_kd.batches.dump_tasks import Span
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.errors import StoreError
from tinyvit_kd.runs.block_writer import Answers
from tinyvit_kd.runs.known_labels import SAMPLED_SHARDS, UNKNOWN, KnownLabels, evenly, view_labels
from tinyvit_kd.runs.teacher_quality import Quality, complaint
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.store.label_sample import Labels, read_label_sample, write_label_sample
from tinyvit_kd.store.records import RecordStatus
from tinyvit_kd.store.statistics import sampled_blocks
from tinyvit_kd.store.store import LogitStore

_SHARDS = 8  # whose labels are kept; a batch is of one or two
MIXED_ROWS_OF_BATCH = 8  # mixed views of a batch and shard whose labels are looked up: 0.2 ms
MIXED_ROWS_OF_BLOCK = 128
SAMPLED_SAMPLES = 4096  # the first of each sampled shard, whose labels a store keeps
Int64 = npt.NDArray[np.int64]


class DumpQuality:
    """Sums up what this process's teacher answered.

    ``noting`` is for the thread that writes blocks, where the answers are on the host. Others may read the figures.

    Args:
        config: the dump's recipe.
        labels: of its samples, as far as they are known.
    """

    def __init__(self, config: DumpConfig, labels: KnownLabels) -> None:
        self.so_far = Quality()
        self.topk = config.store.topk
        self._complained = False
        self._spec, self._seed = config.views, config.store.seed
        self._labels = labels
        teacher = config.teacher
        chosen = teacher.head is not None or teacher.restrict_to is not None  # by whoever wrote the recipe
        same = labels.are_all_classes
        self._has_others = not chosen if same is None else not same
        self._of_shard = lru_cache(_SHARDS)(labels.of_shard)

    def noting(self, batch: DumpBatch, answers: Answers) -> Answers:
        """The same answers, which are summed up when they are there."""

        def noted() -> list[npt.NDArray[np.generic]]:
            found = answers()
            rows = np.flatnonzero(batch.status == RecordStatus.VALID)
            indices, probs, residual = (each[: len(batch.status)][rows] for each in found)
            self.so_far += Quality.of(indices, probs, residual, self._labels_of(batch)[rows])
            return found

        return noted

    def total(self, job: Job, store: LogitStore) -> Quality:
        """The figures of all processes, which must all call; of some blocks of the store where no views were made."""
        made = Quality.from_values(job.sum(torch.tensor(self.so_far.values(), dtype=torch.float64)).tolist())
        if made.views:
            return made
        return job.broadcast(_of_store(store) if job.is_main else made)  # type: ignore[no-any-return]

    def complain(self, job: Job, quality: Quality) -> None:
        """Say once, from rank 0, that this is a teacher from which a student can learn little, if it is one."""
        if self._complained:
            return
        said = complaint(quality, self.topk, self._spec.mixes, self._has_others)
        if said is not None:
            self._complained = True
            say(job, said)

    def _labels_of(self, batch: DumpBatch) -> Int64:
        if self._labels.shards is None:
            return np.full(len(batch.status), UNKNOWN, dtype=np.int64)
        return np.concatenate([self._labels_of_span(span) for span in batch.task])

    def _labels_of_span(self, span: Span) -> Int64:
        """[samples x views], view by view within a sample, as the rows of a batch."""
        group = span.group
        labels = self._of_shard(group.shard)
        by_view = [
            view_labels(
                labels, span.indexes, group.shard, view, group.samples, self._spec, self._seed, MIXED_ROWS_OF_BATCH
            )
            for view in (group.views if self._spec.mixes else group.views[:1])
        ]
        return np.stack(by_view if self._spec.mixes else by_view * len(group.views), axis=1).reshape(-1)


def keep_labels(store: LogitStore, labels: KnownLabels) -> None:
    """Keep the labels of some samples beside the blocks, so that the store can tell how good its teacher is.

    A store that cannot be written any more, or has the same labels already, stays as it is.
    """
    if labels.shards is None or not store.storage.is_writable():
        return
    lengths = store.manifest.shard_lengths
    shards = [shard for shard in evenly(len(lengths), SAMPLED_SHARDS) if lengths[shard]]
    write_label_sample(store.storage, {shard: labels.of_shard(shard)[:SAMPLED_SAMPLES] for shard in shards})


def _of_store(store: LogitStore) -> Quality:
    """The figures of a store that a dump found complete; none if a block or the labels are damaged, as a check says."""
    try:
        labels = read_label_sample(store.storage)
        return stored_quality(store, labels, list(store.present_blocks(store.missing_blocks())))
    except StoreError:
        return Quality()


def stored_quality(store: LogitStore, labels: Labels, present: Sequence[tuple[int, int]]) -> Quality:
    """The figures of some of a store's blocks: of labelled ones, if there are any.

    Args:
        labels: that the store keeps, as far as it does.
        present: (shard, view) of the blocks that the store has.

    Raises:
        BlockCorruptError, StoreError: a block cannot be read.
    """
    try:
        spec = ViewSpec.model_validate(store.manifest.view_spec)
    except ValidationError:  # of a later version, which may mix views in other ways
        spec, labels = ViewSpec(), {}
    labelled = [block for block in present if block[0] in labels]
    quality = Quality()
    for shard, view in sampled_blocks(labelled or present):
        block = store.read_block(shard, view)
        of_shard = labels.get(shard, np.zeros(0, np.int64))
        count, seed = len(block), store.manifest.seed
        of_views = view_labels(of_shard, np.arange(count), shard, view, count, spec, seed, MIXED_ROWS_OF_BLOCK)
        rows = block.valid
        quality += Quality.of(block.indices[rows], block.probs[rows], block.residual[rows], of_views[rows])
    return quality
