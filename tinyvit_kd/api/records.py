"""A store and its records, which are a teacher's answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyvit_kd.api.samples import require_sample, require_shard, require_view
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.store.records import Block, RecordStatus
from tinyvit_kd.store.store import LogitStore


@dataclass(frozen=True, eq=False)
class Records:
    """A teacher's answers to one view of some samples of a shard.

    A hole is a sample that could not be decoded. It has zeros in all fields but ``seeds`` and ``status``.
    """

    classes: npt.NDArray[np.int32]  # [n, K], ascending
    probs: npt.NDArray[np.float32]  # [n, K], of these classes
    residual: npt.NDArray[np.float32]  # [n], probability of all other classes together
    seeds: npt.NDArray[np.uint32]  # [n], of the views
    digests: npt.NDArray[np.uint32]  # [n], of the views' bytes
    status: npt.NDArray[np.uint8]  # [n], a RecordStatus: 0 is valid, other values say why it is a hole

    @property
    def valid(self) -> npt.NDArray[np.bool_]:
        """[n]: False for holes."""
        return np.equal(self.status, RecordStatus.VALID)

    @property
    def top1(self) -> npt.NDArray[np.int32]:
        """[n]: the most probable class; -1 for holes."""
        best = np.take_along_axis(self.classes, self.probs.argmax(axis=1, keepdims=True), axis=1)[:, 0]
        return np.where(self.valid, best, np.int32(-1))

    def __len__(self) -> int:
        return len(self.status)


def open_store(path: str | Path) -> LogitStore:
    """Open a store for reading.

    Its ``manifest`` says what it was made from; ``complete_views()`` says how many views it has of every sample.

    Raises:
        StoreError: there is no store, or its manifest is damaged.
        FormatVersionError: the store has another format.
    """
    return LogitStore.open(path)


def teacher_classes(store: LogitStore) -> ClassList | None:
    """The teacher's class list, in which ``ids[c]`` names class c; None if it was not known when the store was made.

    Raises:
        StoreError: the store's class list is missing or damaged.
    """
    from tinyvit_kd.runs.class_lists import stored_classes  # imports torch

    return stored_classes(store)


def records(
    store: LogitStore, shard: int, view: int, indexes: int | Sequence[int] | npt.NDArray[np.integer] | None = None
) -> Records:
    """Read the records of one view of samples of one shard.

    The whole block is always read, which takes about 10 ms if the shard has 5,000 samples.

    Args:
        indexes: of the samples, in any order; None: all of the shard.

    Raises:
        ConfigError: there is no such shard, view or sample.
        BlockMissingError, BlockCorruptError: the block has not been dumped, or is damaged.
    """
    manifest = store.manifest
    lengths = manifest.shard_lengths
    require_shard(lengths, shard)
    require_view(manifest.views, view)
    # A shard without samples has no block.
    block = store.read_block(shard, view) if lengths[shard] else Block.empty(0, manifest.topk)
    if indexes is not None:
        chosen = np.atleast_1d(np.asarray(indexes, dtype=np.int64))
        for index in chosen.tolist():
            require_sample(lengths, shard, index)
        block = block.take(chosen)
    return Records(block.indices, block.probs, block.residual, block.seeds, block.digests, block.status)


def dense(records: Records, num_classes: int) -> npt.NDArray[np.float32]:
    """The distributions over all classes that a student learns from.

    The residual is spread evenly over the C - K classes that are not in a record.

    Args:
        num_classes: C, as in ``store.manifest.num_classes``. The result takes 4 C bytes per record.

    Returns:
        float32 [n, C]. Rows sum to 1 within rounding; rows of holes are zero.

    Raises:
        ConfigError: a record has a class above C - 1, or more than C classes.
    """
    largest = int(records.classes.max(initial=-1))
    absent = num_classes - records.classes.shape[1]
    if largest >= num_classes or absent < 0:
        raise ConfigError(
            "the records have more classes than num_classes allows",
            where="num_classes",
            found=str(num_classes),
            expected="the store's manifest.num_classes",
        )
    probs = np.empty((len(records), num_classes), dtype=np.float32)
    probs[:] = records.residual[:, None] / max(absent, 1)
    np.put_along_axis(probs, records.classes, records.probs, axis=1)
    return probs
