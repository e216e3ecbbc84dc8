"""Makes or opens the store that a dump writes to, from a recipe, a teacher and shards."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from tinyvit_kd import __version__
from tinyvit_kd.config.data import Encoding
from tinyvit_kd.config.recipes import DumpConfig
from tinyvit_kd.config.view_spec import ViewSpec
from tinyvit_kd.data.labels.class_list import ClassList
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, StoreError
from tinyvit_kd.models.teacher import KnownTeacher, Teacher, teacher_versions
from tinyvit_kd.runs.class_lists import card_classes
from tinyvit_kd.runs.restricted_classes import own_classes
from tinyvit_kd.runtime.device import resolve_precision
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.shared_disks import await_visible
from tinyvit_kd.storage.open import open_storage
from tinyvit_kd.store.codec import plane_rows
from tinyvit_kd.store.create import try_writing
from tinyvit_kd.store.encodings import ENCODINGS
from tinyvit_kd.store.manifest import Manifest, TeacherEntry, size_problem
from tinyvit_kd.store.names import MANIFEST
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.spec_hash import renderer_versions, view_spec_hash
from tinyvit_kd.views.transform import transform_versions

LIBRARIES = ("torch", "timm", "numpy", "numcodecs")


def dump_precision(config: DumpConfig, job: Job) -> str:
    """The precision of a dump's teacher: the recipe's or, with ``auto``, the device's (``resolve_precision``).

    A store that was begun on a GPU when ``auto`` meant bfloat16 there goes on in bfloat16: its records must come from
    one teacher, and a dump of days must not have to start again.
    """
    precision = resolve_precision(job.device, config.runtime.precision, trains=False)
    if config.runtime.precision != "auto" or precision != "float16":
        return precision
    try:
        begun = LogitStore.open(config.store.path).manifest.teacher.precision
    except StoreError:  # there is none yet, or making it will say what is wrong with it
        return precision
    if begun != "bfloat16":
        return precision
    say(job, f"{config.store.path} was begun in bfloat16, and goes on in it; a new store is made in {precision}")
    return begun


def check_topk(config: DumpConfig, teacher: KnownTeacher) -> None:
    """Check that the teacher has at least K classes.

    Raises:
        ConfigError: ``store.topk`` is larger than the number of classes.
    """
    if config.store.topk > teacher.facts.num_classes:
        raise ConfigError(
            "store.topk is larger than the teacher's number of classes",
            where="store.topk",
            found=str(config.store.topk),
            expected=f"at most {teacher.facts.num_classes}",
        )


def create_store(
    config: DumpConfig, teacher: Teacher, classes: ClassList | None, shards: ShardSet, job: Job, own_shards: range
) -> LogitStore:
    """Open the store of this recipe for writing; rank 0 makes it if it does not exist.

    Args:
        classes: the teacher's class list (``teacher_classes``); None if there is none.
        own_shards: the shards whose blocks this job makes.

    Raises:
        ManifestMismatchError: the folder holds a store of another recipe, teacher or shard set, or this process has
            another teacher or other shards than rank 0.
        StoreError: the store's manifest is missing or damaged, or the folder cannot be written.
        DiskSpaceError: the missing blocks do not fit on the disk.
    """
    path = config.store.path
    require_possible(config, teacher, shards)
    manifest = _manifest(config, teacher, shards, classes)
    if job.is_main:
        store = LogitStore.create(path, manifest, fsync=config.runtime.fsync)
        if classes is not None:
            store.write_class_list(classes.ids)
        _require_room(store, own_shards)
    job.barrier()
    if not job.is_main:
        await_visible(lambda: open_storage(path).info(MANIFEST) is not None)  # made on another machine, a moment ago
    store = LogitStore.open(path, writable=True, fsync=config.runtime.fsync)
    if other := store.manifest.other_versions(manifest.versions):  # the manifest has those of the store's first dump
        say(job, f"versions differ from those of the store's first dump: {other}")
    # Rank 0 has made this comparison, but teacher and shards may come from each machine's own disk.
    store.manifest.require_same(manifest.identity, str(path))
    return store


def require_possible(config: DumpConfig, teacher: KnownTeacher, shards: ShardSet) -> None:
    """Refuse a store that is larger than any that can be read, before its manifest is made.

    Raises:
        ConfigError: naming the number that is too large.
    """
    asked = config.store
    lengths: list[int] = shards.lengths.tolist()
    problem = size_problem(lengths, asked.views, asked.encoding, asked.topk, teacher.facts.num_classes)
    if problem:
        raise ConfigError(
            "the store would be too large to be used",
            where="store.views, store.topk",
            found=problem,
            fix="lower store.views or store.topk, or build shards of another number of samples",
        )


def _require_room(store: LogitStore, own_shards: range) -> None:
    """Check that the missing blocks can be written. A store of which none is missing may be on a read-only disk.

    Raises:
        StoreError: the store's folder is read-only.
        DiskSpaceError: the blocks do not fit on the disk.
    """
    blocks = store.missing_table(shards=own_shards).sum(axis=1)  # missing, of each shard
    if blocks.any() and not store.storage.is_writable():
        raise StoreError(
            "the missing blocks cannot be written: the store's folder is read-only for this user",
            where=store.where,
            found=f"{blocks.sum():,} missing blocks",
            fix="change the folder's permissions, mount its disk for writing, or choose another folder",
        )
    if blocks.any():
        try_writing(store.storage)
    manifest = store.manifest
    shape = manifest.encoding, manifest.topk, manifest.num_classes
    lengths = manifest.shard_lengths
    size = sum(count * expected_bytes([lengths[shard]], *shape) for shard, count in enumerate(blocks.tolist()) if count)
    store.storage.require_free_space(size)


def expected_bytes(lengths: Sequence[int], encoding: Encoding, topk: int, num_classes: int) -> int:
    """Estimated size on disk of blocks of these lengths, bytes, with something to spare."""
    sizes = [length * plane_rows(encoding, length, topk, num_classes) for length in lengths if length]
    return int(sum(sizes) * ENCODINGS[encoding].compressed)


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
            precision=teacher.precision,
            restriction=facts.restriction.hash if facts.restriction else None,
            head=facts.head,
        ),
        num_classes=facts.num_classes,
        class_list=classes.name if classes else None,
        class_list_hash=classes.hash if classes else None,
        topk=config.store.topk,
        views=config.store.views,
        encoding=config.store.encoding,
        seed=config.store.seed,
        versions=_versions(config.views) | teacher_versions(config.teacher),
    )


def _versions(spec: ViewSpec) -> dict[str, str]:
    libraries = {name: importlib.metadata.version(name) for name in LIBRARIES}
    # Its own is not asked for: a tree that is on the path, but was not installed, has no metadata.
    return {"tinyvit_kd": __version__} | libraries | renderer_versions() | transform_versions(spec)


def teacher_classes(config: DumpConfig, teacher: KnownTeacher) -> ClassList | None:
    """The teacher's class list: the recipe's or, if it names none, that of the teacher's file; None if there is none.

    Of a teacher that is restricted to classes, these.

    Raises:
        ConfigError: the list has another number of classes than the teacher.
    """
    facts = teacher.facts
    return card_classes(facts) if facts.restriction is not None else own_classes(config.teacher, facts)
