"""The store's manifest from a recipe, a teacher and shards; and the checks before a dump begins."""

from __future__ import annotations

import importlib.metadata

from tinyvit_kd.config.stages import DumpConfig
from tinyvit_kd.data.labels import ClassList, load_class_list
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError, StoreError
from tinyvit_kd.models.teacher import Teacher
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import atomic_write, require_free_space
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.records import record_bytes
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.spec import renderer_versions, view_spec_hash

CLASSES = "classes.txt"
LIBRARIES = ("tinyvit_kd", "torch", "timm", "numpy", "zarr", "numcodecs")


def check_dump(config: DumpConfig, teacher: Teacher, shards: ShardSet) -> None:
    """Check what can be checked before the first pass of the teacher.

    Raises:
        ConfigError: K above C, or a batch too small for the views of one image.
        DiskSpaceError: the disk has no room for the store.
    """
    if config.store.topk > teacher.num_classes:
        raise ConfigError(
            "store.topk is larger than the number of the teacher's classes",
            where="store.topk",
            found=str(config.store.topk),
            expected=f"at most {teacher.num_classes}",
        )
    if config.batch_size < config.views_per_decode:
        raise ConfigError(
            "batch_size is smaller than views_per_decode",
            where="batch_size",
            found=f"{config.batch_size} < {config.views_per_decode}",
            fix="raise batch_size or lower views_per_decode",
        )


def create_store(config: DumpConfig, teacher: Teacher, shards: ShardSet, job: Job) -> LogitStore:
    """Open the store of this recipe for writing; rank 0 makes it where it does not exist.

    Raises:
        ManifestMismatchError: the folder holds a store of another recipe, teacher or shard set.
        DiskSpaceError: what is missing does not fit on the disk.
    """
    path, classes = config.store.path, teacher.classes
    if job.is_main:
        store = LogitStore.create(path, _manifest(config, teacher, shards))
        if classes is not None:
            atomic_write(path / CLASSES, ("\n".join(classes.ids) + "\n").encode())
        missing = sum(int(shards.lengths[shard]) for shard, _ in store.missing_blocks())
        require_free_space(path, missing * record_bytes(config.store.topk, config.store.encoding))
    job.barrier()
    return LogitStore.open(path, writable=True, fsync=config.runtime.fsync)
