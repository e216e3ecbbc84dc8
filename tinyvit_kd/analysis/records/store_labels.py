"""The labels that a store's teacher is compared with: of its shards or, without them, those that the store keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from tinyvit_kd.analysis.jobs.traces import results_files
from tinyvit_kd.config.data import MaybeLabelledShardsConfig
from tinyvit_kd.data.locating.urls import is_url
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import TinyVitKdError, said_by
from tinyvit_kd.runs.class_lists import stored_classes
from tinyvit_kd.runs.known_labels import UNKNOWN, KnownLabels, known_labels
from tinyvit_kd.runs.store_agreement import require_same_shards
from tinyvit_kd.runtime.files import read_small_json
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.store.label_sample import Labels, read_label_sample
from tinyvit_kd.store.store import LogitStore

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True)
class StoreLabels:
    """Labels of a store's samples as classes of its teacher, as far as they are known.

    Attributes:
        source: where they come from or why there are none, for people.
        known: of all shards; its ``shards`` are None where they are not known.
        sample: of the first samples of some shards, which the store keeps; used where ``known`` has none.
        note: what was taken for granted, for people; empty if nothing was.
    """

    source: str
    known: KnownLabels = field(default_factory=lambda: KnownLabels(None))
    sample: Labels = field(default_factory=dict)
    note: str = ""

    @property
    def kind(self) -> str:
        """``shards``: of all samples; ``sample``: of some; ``none``."""
        return "shards" if self.known.shards is not None else "sample" if self.sample else "none"

    def of_shard(self, shard: int) -> Int64:
        """The teacher's class of a shard's first samples, int64 [n], -1 where it is not known; those behind are not."""
        if self.known.shards is not None:
            return self.known.of_shard(shard)
        return self.sample.get(shard, np.full(0, UNKNOWN, np.int64))


def find_labels(store: LogitStore, shards: ShardSet | None = None, *, beside: bool = True) -> StoreLabels:
    """The labels of a store's samples: of its shards or, without them, those that the store keeps of some.

    Args:
        shards: opened with ``open_stored_shards``; None: those that the store's results name, if they are there.
        beside: whether to look for these results.

    Raises:
        StoreError: the store's class list or its sample of labels is damaged.
    """
    classes = stored_classes(store)
    where = "the shards"
    if shards is None and beside:
        shards = shards_beside(store)
        where = "the shards that the dump names"
    unknown = "no shards were given (--shards)"
    if shards is not None:
        known = known_labels(shards, classes, store.manifest.num_classes)
        if known.shards is not None:
            return StoreLabels(f"of {where}, {shards.name}", known, note=known.note)
        nameless = shards.class_list is None and classes is not None
        unknown = known.unknown + (", which --class-list names" if nameless else "")
    sample = read_label_sample(store.storage)
    if any((labels >= 0).any() for labels in sample.values()):
        return StoreLabels("of some samples, which the store keeps (--shards gives all)", sample=sample)
    return StoreLabels(f"not known: {unknown}, and the store keeps none")


def open_stored_shards(store: LogitStore, path: str, split: str | None = None, **options: Any) -> ShardSet:
    """Open the shards that a store was dumped from.

    Args:
        path, split, options: as ``ShardSet.load`` takes them.

    Raises:
        ManifestMismatchError: these are others.
        ShardError, ConfigError: they are missing or damaged, or an option is wrong.
    """
    with saying("opening the shards", unit="shard") as beat:
        shards = ShardSet.load(path, split, on_shard=beat.at, **options)
    require_same_shards(store.manifest, shards)
    return shards


def open_named_shards(store: LogitStore, config: MaybeLabelledShardsConfig) -> tuple[ShardSet | None, str]:
    """The shards that a recipe beside a store names, if they are on a disk and the store's; else why there are none.

    A stranger's file must not make a command fetch anything (and ``pipe:`` runs a command), nor make folders.
    """
    if is_url(config.path) or "pipe:" in config.path:
        return None, "its shards are at a URL, and nothing is fetched because a file says so"
    labels = config.model_dump(include={"class_list", "label_key", "first_label"})
    index_dir = config.index_dir if config.index_dir is not None and config.index_dir.is_dir() else None
    try:
        return open_stored_shards(store, config.path, config.split, index_dir=index_dir, **labels), ""
    except (TinyVitKdError, OSError) as error:
        return None, f"its shards cannot be opened: {said_by(error)}"


def shards_beside(store: LogitStore) -> ShardSet | None:
    """The shards of the dump's recipe, if it is beside the store (see ``open_named_shards``)."""
    config = next(filter(None, map(_shards_in, results_files(store.where))), None)
    return None if config is None else open_named_shards(store, config)[0]


def _shards_in(results: Path) -> MaybeLabelledShardsConfig | None:
    recipe = read_small_json(results).get("recipe")
    try:
        return MaybeLabelledShardsConfig.model_validate(recipe["shards"] if isinstance(recipe, dict) else None)
    except (LookupError, ValidationError):
        return None
