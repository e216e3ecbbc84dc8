"""The store's manifest from a recipe, a teacher and shards; and the checks before a dump begins."""

from __future__ import annotations

import importlib.metadata

from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.class_list import ClassList, load_class_list
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.teacher import Teacher
from tinyvit_kd.runs.class_lists import card_classes
from tinyvit_kd.runtime.device import resolve_precision
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.store.codec import plane_rows
from tinyvit_kd.store.encodings import ENCODINGS
from tinyvit_kd.store.manifest import Manifest, TeacherEntry
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.spec_hash import renderer_versions, view_spec_hash
from tinyvit_kd.views.transform import transform_versions

LIBRARIES = ("tinyvit_kd", "torch", "timm", "numpy", "zarr", "numcodecs")


def check_dump(config: DumpConfig, teacher: Teacher) -> None:
    """Check what can be checked before the first pass of the teacher.

    Raises:
        ConfigError: K above C.
    """
    if config.store.topk > teacher.facts.num_classes:
        raise ConfigError(
            "store.topk is larger than the number of the teacher's classes",
            where="store.topk",
            found=str(config.store.topk),
            expected=f"at most {teacher.facts.num_classes}",
        )


def create_store(config: DumpConfig, teacher: Teacher, shards: ShardSet, job: Job, mine: range) -> LogitStore:
    """Open the store of this recipe for writing; rank 0 makes it where it does not exist.

    Args:
        mine: the shards whose blocks this job makes.

    Raises:
        ManifestMismatchError: the folder holds a store of another recipe, teacher or shard set, or this process has
            another teacher or other shards than rank 0.
        DiskSpaceError: what is missing does not fit on the disk.
    """
    path, classes = config.store.path, teacher_classes(config, teacher)
    manifest = _manifest(config, teacher, shards, classes)
    if job.is_main:
        store = LogitStore.create(path, manifest, fsync=config.runtime.fsync)
        if classes is not None:
            store.write_class_list(classes.ids)
        store.storage.require_free_space(_bytes_needed(store, mine))
    job.barrier()
    store = LogitStore.open(path, writable=True, fsync=config.runtime.fsync)
    if other := store.manifest.other_versions(manifest.versions):  # a manifest names those of its store's beginning
        say(job, f"versions differ from those that the store was begun with: {other}")
    store.manifest.require_same(manifest.identity, str(path))  # teacher and shards may lie on each machine's own disk
    return store


def _bytes_needed(store: LogitStore, mine: range) -> int:
    """About the size of the missing blocks: of their planes before compression, what is known to remain of them."""
    manifest = store.manifest
    lengths = [manifest.shard_lengths[shard] for shard, _ in store.missing_blocks() if shard in mine]
    rows = [length * plane_rows(manifest.encoding, length, manifest.topk, manifest.num_classes) for length in lengths]
    return int(sum(rows) * ENCODINGS[manifest.encoding].compressed)


def _manifest(config: DumpConfig, teacher: Teacher, shards: ShardSet, classes: ClassList | None) -> Manifest:
    facts = teacher.facts
    return Manifest(
        shard_set=shards.name,
        shard_names=shards.names,
        shard_lengths=tuple(shards.lengths.tolist()),
        key_hashes=tuple(shards.key_hashes()),
        view_spec=config.views.model_dump(mode="json"),
        view_spec_hash=view_spec_hash(config.views),
        teacher=TeacherEntry(
            name=facts.name,
            weights_hash=teacher.weights_hash,
            image_size=facts.image_size,
            mean=facts.mean,
            std=facts.std,
            precision=resolve_precision(teacher.device, config.runtime.precision),
        ),
        num_classes=facts.num_classes,
        class_list=classes.name if classes else None,
        class_list_hash=classes.hash if classes else None,
        topk=config.store.topk,
        views=config.store.views,
        encoding=config.store.encoding,
        seed=config.store.seed,
        versions=_versions(config.views),
    )


def _versions(spec: ViewSpec) -> dict[str, str]:
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return libraries | renderer_versions() | transform_versions(spec)


def teacher_classes(config: DumpConfig, teacher: Teacher) -> ClassList | None:
    """The teacher's class list: the recipe's, else its file's.

    Raises:
        ConfigError: the list has another number of classes than the teacher.
    """
    facts = teacher.facts
    if config.teacher.class_list is None:
        return card_classes(facts)
    classes = load_class_list(config.teacher.class_list)
    if len(classes.ids) != facts.num_classes:
        raise ConfigError(
            "the teacher has another number of classes than its class list",
            where="teacher.class_list",
            found=f"{facts.num_classes} classes in {facts.name}, {len(classes.ids)} in {classes.name}",
            fix="name the list of the teacher's own head (timm's lists order and count classes differently)",
        )
    return classes
