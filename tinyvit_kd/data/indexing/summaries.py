"""What is kept of each shard's index once it has been read: millions of samples in a few numbers."""

from __future__ import annotations

from typing import NamedTuple

from tinyvit_kd.data.indexing.index import ShardIndex
from tinyvit_kd.data.labels.sample_labels import NO_LABEL
from tinyvit_kd.data.tars.leftovers import Leftovers


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
