"""What is kept of each shard's index once it has been read: millions of samples in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tinyvit_kd.data.indexing.index import ShardIndex
from tinyvit_kd.data.labels.sample_labels import NO_LABEL
from tinyvit_kd.data.tars.leftovers import Leftovers
from tinyvit_kd.errors import ShardError


class LabelCounts(NamedTuple):
    """The labels of a shard set in numbers."""

    samples: int
    unlabelled: int  # samples without a label
    smallest: int  # label; -1 if no sample has one
    largest: int  # label; -1 if no sample has one


class Summary(NamedTuple):
    """One shard in numbers."""

    samples: int
    key_hash: int
    label_hash: int
    unlabelled: int
    smallest_label: int  # -1 if no sample has one
    largest_label: int  # -1 if no sample has one
    image_bytes: int
    leftovers: Leftovers | None  # None: an older version's index, not known


@dataclass(frozen=True, eq=False)
class Summaries:
    """All shards of a set in numbers, as arrays [shards]: a hundred thousand shards take 6 MB, in memory and sent."""

    samples: npt.NDArray[np.int64]
    key_hash: npt.NDArray[np.uint64]
    label_hash: npt.NDArray[np.uint64]
    unlabelled: npt.NDArray[np.int64]
    smallest_label: npt.NDArray[np.int64]  # -1 if no sample has one
    largest_label: npt.NDArray[np.int64]  # -1 if no sample has one
    image_bytes: npt.NDArray[np.int64]
    leftovers: Leftovers  # of all shards together

    @classmethod
    def of(cls, names: Sequence[str], summaries: Iterable[Summary]) -> Summaries:
        """Summaries one after the other; ``names`` are those of the shards."""
        rows, leftovers = [], Leftovers()
        for name, each in zip(names, summaries, strict=True):
            rows.append(each[: len(COLUMNS)])
            if each.leftovers is None:
                leftovers.unknown += 1
            else:
                leftovers.add(name, each.leftovers)
        columns = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
        arrays: dict[str, Any] = {
            field: np.array(values, dtype) for (field, dtype), values in zip(COLUMNS.items(), columns, strict=True)
        }
        return cls(**arrays, leftovers=leftovers)

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def labels(self) -> LabelCounts:
        """The labels of all shards."""
        labelled = self.largest_label >= 0
        return LabelCounts(
            samples=int(self.samples.sum()),
            unlabelled=int(self.unlabelled.sum()),
            smallest=int(self.smallest_label[labelled].min()) if labelled.any() else NO_LABEL,
            largest=int(self.largest_label.max(initial=NO_LABEL)),
        )

    def require_same(self, shard: int, index: ShardIndex, where: str) -> None:
        """Check that an index, whose labels are classes, is that of the shard of which this tells.

        The shard may lie on another machine's own disk, or have changed since.

        Raises:
            ShardError: it is that of other samples, or of other labels.
        """
        changed = [
            what
            for what, one, other in (
                ("keys or sizes", index.key_hash, self.key_hash[shard]),
                ("labels", index.label_hash, self.label_hash[shard]),
            )
            if one != other
        ]
        if changed:
            raise ShardError(
                "a shard is not the one that the run began with, or not the same on all machines",
                where=where,
                found=f"other {' and '.join(changed)} of its samples than rank 0 found at the start",
                fix="restore the shard, or copy it from where the other machines read it; then start again",
            )


# Names and types of the arrays, which are those of a Summary's fields, in their order.
COLUMNS = {each.name: "<u8" if each.name.endswith("hash") else "<i8" for each in fields(Summaries)[:-1]}


def summary_of(index: ShardIndex) -> Summary:
    """The numbers of an index whose labels are classes."""
    labelled = index.labels[index.labels >= 0]
    smallest, largest = (int(labelled.min()), int(labelled.max())) if len(labelled) else (NO_LABEL, NO_LABEL)
    return Summary(
        samples=len(index),
        key_hash=index.key_hash,
        label_hash=index.label_hash,
        unlabelled=len(index) - len(labelled),
        smallest_label=smallest,
        largest_label=largest,
        image_bytes=int(index.sizes.sum()),
        leftovers=index.leftovers,
    )
