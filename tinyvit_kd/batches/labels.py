"""Labels of samples as classes of the head."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit_kd.batches.step_plan import Int32
from tinyvit_kd.data.buffers import Arrays
from tinyvit_kd.data.shard_reader import ShardReader

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """Looks up samples' labels, as classes of the head.

    Attributes:
        class_map: int64 [label classes], the head's class of each, -1 if it has none; None: they are the same.
    """

    reader: ShardReader
    class_map: Int64 | None = None

    def gather(self, shards: Int32, indexes: Int32) -> Int64:
        """Labels of samples from several shards: int64 [B], -1 where unknown."""
        labels = np.empty(len(shards), dtype=np.int64)
        for shard in np.unique(shards):
            rows = shards == shard
            labels[rows] = self.reader.labels(int(shard), indexes[rows])
        return labels if self.class_map is None else np.where(labels < 0, -1, self.class_map[labels])

    def has_any(self, shard: int, length: int) -> bool:
        """Whether any of the ``length`` samples of a shard has a label that is a class of the head."""
        indexes = np.arange(length, dtype=np.int32)
        return bool((self.gather(np.full_like(indexes, shard), indexes) >= 0).any())


def write_labels(arrays: Arrays, labels: Labels, shards: Int32, indexes: Int32, mixed_in: Int32) -> None:
    """Fill ``labels`` and, if views are mixed, ``mixed_labels``: [B/M, M] each.

    Args:
        arrays: of the batch, grouped by sample.
        shards, indexes: of the samples, [B/M].
        mixed_in: index of the sample that is mixed into each view, [B/M, M]; ignored where ``lam`` is 1.
    """
    own = labels.gather(shards, indexes)[:, None]
    arrays["labels"][:] = own
    if "lam" in arrays:
        others = labels.gather(np.repeat(shards, mixed_in.shape[1]), mixed_in.reshape(-1))
        arrays["mixed_labels"][:] = np.where(arrays["lam"] < 1, others.reshape(mixed_in.shape), own)
