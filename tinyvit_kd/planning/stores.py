"""What stage two has to know of a store: from the store itself or, where there is none yet, from its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import Any

from tinyvit_kd.config.data import Encoding
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.teacher import TeacherFacts
from tinyvit_kd.planning.store_sizes import record_bytes
from tinyvit_kd.runs.class_lists import stored_classes
from tinyvit_kd.runs.store_agreement import require_same_listing, stored_spec
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.names import MANIFEST
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.spec_hash import view_spec_hash

_BLOCKS_LOOKED_AT = 64


@dataclass(frozen=True)
class StoreFacts:
    """A store, or what will be one.

    Attributes:
        path: of the store.
        spec: what its views are.
        lengths: samples of each shard; None where they are not known yet.
        classes: the teacher's class list; None if it is not known.
        record_bytes: of one record on disk.
        store: where it is there already and no recipe of the plan goes on with it; its blocks must then be complete.
    """

    path: str
    spec: ViewSpec
    lengths: tuple[int, ...] | None
    views: int
    num_classes: int
    classes: ClassList | None
    topk: int
    encoding: Encoding
    seed: int
    record_bytes: float
    store: LogitStore | None = None


def open_existing(path: str) -> LogitStore | None:
    """The store at a path; None if there is none.

    Raises:
        StoreError: there is one, and its manifest is damaged.
    """
    return LogitStore.open(path) if open_storage(path).info(MANIFEST) is not None else None


def facts_of(store: LogitStore, trusted: bool) -> StoreFacts:
    """What a store says of itself.

    Args:
        trusted: whether a transform that the store names may be imported and called.

    Raises:
        StoreError, ConfigError: see ``stored_spec`` and ``stored_classes``.
    """
    manifest = store.manifest
    measured = measured_record_bytes(store, store.missing_blocks())
    return StoreFacts(
        path=store.where,
        spec=stored_spec(manifest, trusted, "set store.trust_transform: true"),
        lengths=manifest.shard_lengths,
        views=manifest.views,
        num_classes=manifest.num_classes,
        classes=stored_classes(store),
        topk=manifest.topk,
        encoding=manifest.encoding,
        seed=manifest.seed,
        record_bytes=measured or record_bytes(manifest.encoding, manifest.topk, manifest.num_classes),
        store=store,
    )


def measured_record_bytes(store: LogitStore, missing: list[tuple[int, int]]) -> float | None:
    """Bytes of a record on disk, from the sizes of some of the blocks that are there; None if there are none.

    Args:
        missing: (shard, view) of the store's blocks that are not there.
    """
    blocks = list(islice(store.present_blocks(missing), _BLOCKS_LOOKED_AT))
    records = sum(store.manifest.shard_lengths[shard] for shard, _ in blocks)
    return sum(store.block_bytes(*block) for block in blocks) / records if records else None


def require_same_recipe(store: LogitStore, config: DumpConfig, teacher: TeacherFacts | None, shards: ShardSet) -> None:
    """Compare a store with the recipe that is to go on with it, as far as this is known without weights and images.

    Raises:
        ManifestMismatchError: naming every field that differs.
    """
    manifest = store.manifest
    require_same_listing(manifest, shards)
    expected = {
        "view_spec": config.views.model_dump(mode="json"),
        "view_spec_hash": view_spec_hash(config.views),
        "topk": config.store.topk,
        "encoding": config.store.encoding,
        "seed": config.store.seed,
    }
    if teacher is not None:
        known: dict[str, Any] = {name: getattr(teacher, name) for name in ("name", "image_size", "mean", "std", "head")}
        known["restriction"] = teacher.restriction.hash if teacher.restriction else None
        expected["teacher"] = manifest.teacher.model_copy(update=known)
        expected["num_classes"] = teacher.num_classes
    manifest.require_same(expected, store.where, other="this recipe")
