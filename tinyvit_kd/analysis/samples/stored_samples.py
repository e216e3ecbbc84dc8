"""Samples of a store as people look at them: the image, its label, its views and what the teacher said of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from tinyvit_kd.analysis.samples.replayed_views import ReplayedView, ReplayedViews
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.runs.class_lists import stored_classes
from tinyvit_kd.runs.class_names import names_of
from tinyvit_kd.runs.known_labels import UNKNOWN, KnownLabels, known_labels
from tinyvit_kd.store.store import LogitStore


@dataclass(frozen=True)
class SampleLabel:
    """A label for people.

    Attributes:
        name: of its class.
        teacher_class: the teacher's class that it is; -1 where that is not known, or there is none.
    """

    name: str
    teacher_class: int = UNKNOWN


@dataclass(frozen=True, eq=False)
class StoredSample:
    """One sample, with some of its views.

    Attributes:
        shard, index: where it is.
        shard_name: of that shard.
        key: of the sample.
        image_bytes: the encoded image.
        label: its own.
        views: in the order in which they were asked for.
        mixed_labels: for each view, the label of the sample that is mixed in; None where none is.
    """

    shard: int
    index: int
    shard_name: str
    key: str
    image_bytes: bytes = field(repr=False)
    label: SampleLabel
    views: tuple[ReplayedView, ...]
    mixed_labels: tuple[SampleLabel | None, ...]


@dataclass(frozen=True)
class StoredSamples:
    """Looks samples of a store up.

    Attributes:
        views: the store's views.
        shards: that it was dumped from.
        labels: of the samples as classes of the teacher, as far as they are known.
        names: of the teacher's classes.
    """

    views: ReplayedViews
    shards: ShardSet
    labels: KnownLabels
    names: Sequence[str]

    @classmethod
    def open(cls, store: LogitStore, shards: ShardSet, *, trusted: bool = False, consent: str = "") -> StoredSamples:
        """Samples of a store from the shards that it was dumped from.

        Args:
            trusted: whether a transform that the store names may be imported and called.
            consent: what a user does who trusts it.

        Raises:
            ConfigError: the store's views come from a transform, which is not trusted.
            ManifestMismatchError: the store was made from other shards, or by another version of the renderer.
            StoreError: the store's class list is damaged.
        """
        views = ReplayedViews.open(store, shards, trusted, consent)
        classes, count = stored_classes(store), store.manifest.num_classes
        return cls(views, shards, known_labels(shards, classes, count), names_of(classes, count))

    def sample(self, shard: int, index: int, views: Sequence[int]) -> StoredSample:
        """One sample with these of its views.

        Raises:
            ShardError: the shard cannot be read.
            TransformError, RendererError: a view cannot be rendered here.
        """
        reader = self.views.reader
        seen = tuple(self.views.view(shard, index, number) for number in views)
        return StoredSample(
            shard,
            index,
            reader.name(shard),
            reader.key(shard, index),
            reader.read(shard, index),
            self.label(shard, index),
            seen,
            tuple(self.label(shard, view.mixed_in) if view.mixed_in not in (-1, index) else None for view in seen),
        )

    def label(self, shard: int, index: int) -> SampleLabel:
        """The label of one sample."""
        label = int(self.views.reader.labels(shard, np.array([index]))[0])
        if self.labels.shards is not None and (known := int(self.labels.of_shard(shard)[index])) != UNKNOWN:
            return SampleLabel(self.names[known], known)
        if label < 0:
            return SampleLabel("no label")
        if label < len(self._label_names):
            return SampleLabel(f"{self._label_names[label]}, which the teacher does not know")
        return SampleLabel(f"label {label}")

    @cached_property
    def _label_names(self) -> list[str]:
        classes = self.shards.class_list
        return [] if classes is None else names_of(classes, len(classes.ids))
