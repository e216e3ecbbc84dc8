"""Labels of a dump's samples as classes of its teacher, where both are known: what the teacher should have said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runs.class_lists import label_map
from tinyvit_kd.runtime.seeding import view_seed
from tinyvit_kd.views.mixing import Mix, partners, sample_mix

Int64 = npt.NDArray[np.int64]
SAMPLED_SHARDS = 32  # shards whose labels are looked at, and kept in the store
UNKNOWN = -1  # no label, or one of a class that the teacher does not have


@dataclass(frozen=True)
class KnownLabels:
    """The labels of a shard set, as classes of a teacher.

    Attributes:
        shards: the samples; None where their labels, or what these mean to the teacher, are not known.
        class_map: int64 [label classes], the teacher's class of each, -1 if it has none; None: they are the same.
        num_classes: C of the teacher.
        unknown: why the labels are not known, for people; empty where they are.
        note: what was taken for granted, for people; empty if nothing was.
    """

    shards: ShardSet | None
    class_map: Int64 | None = None
    num_classes: int = 0
    unknown: str = ""
    note: str = ""

    @property
    def are_all_classes(self) -> bool | None:
        """Whether each of the teacher's classes is one of the labels' classes; None where that is not known."""
        if self.shards is None or self.shards.class_list is None:
            return None
        return self.class_map is None or len(np.unique(self.class_map[self.class_map >= 0])) == self.num_classes

    def of_shard(self, shard: int) -> Int64:
        """The teacher's class of every sample of one shard: int64 [samples], -1 where it is not known."""
        assert self.shards is not None
        labels = self.shards.index(shard).labels
        classes = np.arange(self.num_classes) if self.class_map is None else self.class_map
        known = (labels >= 0) & (labels < len(classes))
        return np.where(known, classes[np.where(known, labels, 0)], UNKNOWN)


def known_labels(shards: ShardSet, classes: ClassList | None, num_classes: int) -> KnownLabels:
    """Find a shard set's labels among a teacher's classes.

    Args:
        classes: the teacher's class list; None if it is not known.
        num_classes: C of the teacher.
    """
    some = [shards.index(shard).labels for shard in evenly(len(shards.names), SAMPLED_SHARDS)]
    largest = max((int(each.max(initial=UNKNOWN)) for each in some), default=UNKNOWN)
    if largest < 0:
        return KnownLabels(None, unknown="the shards have no labels")
    labels = shards.class_list
    if labels is None and classes is not None:
        return KnownLabels(None, unknown="the class list of the shards' labels is not known (shards.class_list)")
    try:
        class_map = label_map(labels, classes, num_classes)
    except ConfigError as error:
        return KnownLabels(None, unknown=f"{error.what} ({error.found})")
    if largest >= (num_classes if labels is None else len(labels.ids)):
        return KnownLabels(None, unknown=f"label {largest} is larger than any of the class list")
    note = "" if classes is not None else "the teacher's class list is not known: its class i is taken for label i"
    return KnownLabels(shards, class_map, num_classes, note=note)


def view_labels(
    labels: Int64, indexes: Int64, shard: int, view: int, length: int, spec: ViewSpec, seed: int, mixed_rows: int
) -> Int64:
    """The labels of some samples' views, as far as a view has one.

    A mixed view has the label of the sample with the larger weight. (A sample whose partner turned out to be a hole is
    not mixed, which is not known here.)

    Args:
        labels: of the shard's first samples, int64 [n]; those behind are not known.
        indexes: of the samples, int64 [rows].
        shard, view: numbers of the block.
        length: number of samples of the shard.
        spec: the view spec.
        seed: of the store, from which the views' seeds and the pairs follow.
        mixed_rows: how many views' mixes are looked up, if views are mixed; it takes 20 µs each.

    Returns:
        int64 [rows], -1 where the label is not known.
    """
    shown = indexes
    if spec.mixes:
        partner = partners(seed, shard, view, length)
        shown = np.full(len(indexes), -1, dtype=np.int64)
        for row, index in enumerate(indexes[:mixed_rows].tolist()):
            shown[row] = _shown_sample(index, int(partner[index]), shard, view, spec, seed)
    known = (shown >= 0) & (shown < len(labels))
    return np.where(known, labels[np.where(known, shown, 0)] if len(labels) else UNKNOWN, UNKNOWN)


def own_weights(shard: int, view: int, length: int, spec: ViewSpec, seed: int) -> npt.NDArray[np.float64]:
    """The weight of each sample's own image in a view of it: float64 [length], 1 where the view is not mixed.

    The partner's image has the rest (``views.mixing.partners``). It takes 20 µs per sample if views are mixed.

    Args:
        shard, view, length, spec, seed: as ``view_labels`` takes them.
    """
    weights = np.ones(length)
    if spec.mixes:
        for index, partner in enumerate(partners(seed, shard, view, length).tolist()):
            mix = _mix(index, partner, shard, view, spec, seed)
            weights[index] = 1.0 if mix is None else mix.lam
    return weights


def _shown_sample(index: int, partner: int, shard: int, view: int, spec: ViewSpec, seed: int) -> int:
    """Which of a pair's samples has the larger weight in a view."""
    mix = _mix(index, partner, shard, view, spec, seed)
    return index if mix is None or mix.lam >= 0.5 else partner


def _mix(index: int, partner: int, shard: int, view: int, spec: ViewSpec, seed: int) -> Mix | None:
    if partner < 0:
        return None
    own_seed, partner_seed = (view_seed(seed, shard, each, view) for each in (index, partner))
    return sample_mix(own_seed, partner_seed, spec)


def evenly(count: int, wanted: int) -> Iterable[int]:
    """At most ``wanted`` of the numbers below ``count``, evenly spread."""
    return range(0, count, max(1, -(-count // wanted)))
