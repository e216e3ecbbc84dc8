"""What several stages open and check before a device is touched."""

from __future__ import annotations

from dataclasses import replace

from tinyvit_kd.config.data import ShardsConfig
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.config.views import ViewSpec
from tinyvit_kd.data.labels import ClassList, load_class_list
from tinyvit_kd.data.order import check_lanes
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.selfcheck import self_check
from tinyvit_kd.views.spec import view_spec_hash

CLASSES = "classes.txt"  # the teacher's class list, beside the manifest


def open_shards(config: ShardsConfig, job: Job) -> ShardSet:
    """The shard set with its byte indexes, which rank 0 builds first where they are missing."""
    shards = ShardSet.load(config.path, config.split, cache_dir=config.cache_dir, index_dir=config.index_dir)
    if job.is_main:
        shards.key_hashes()
    job.barrier()
    return shards


def fingerprint(shards: ShardSet) -> str:
    """16 hexadecimal digits over all keys and image sizes, in order."""
    return f"{hash64(*shards.key_hashes()):016x}"


def label_classes(config: ShardsConfig, shards: ShardSet) -> ClassList | None:
    """The class list of a shard set's labels: the recipe's, else the one that lies beside the shards."""
    if config.class_list is not None:
        return load_class_list(config.class_list)
    return shards.class_list


def check_schedule(schedule: ScheduleConfig, shards: ShardSet, job: Job) -> None:
    """Check lanes, batch and accumulation against the world size and the number of samples.

    Raises:
        ConfigError: naming the nearest values that fit.
    """
    check_lanes(schedule.lanes, schedule.global_batch_size, job.world_size)
    local = schedule.global_batch_size // job.world_size
    if local % schedule.accumulate:
        raise ConfigError(
            "a rank's batch does not divide into schedule.accumulate equal parts",
            where="schedule.accumulate",
            found=f"{schedule.accumulate} parts of {local} samples",
            expected=f"a divisor of {local}",
        )
    if shards.total < schedule.global_batch_size + schedule.lanes:
        raise ConfigError(
            "the shard set is too small for one step an epoch",
            where="schedule.global_batch_size",
            found=f"{schedule.global_batch_size} samples a step, {shards.total} samples in {shards.name}",
            fix="lower schedule.global_batch_size (and schedule.lanes)",
        )


def card_classes(card: ModelCard | None) -> ClassList | None:
    """The class list that a model file names."""
    if card is None or card.class_ids is None:
        return None
    return ClassList(card.class_name or "its own", card.class_ids)


def require_same_shards(manifest: Manifest, shards: ShardSet) -> None:
    """Check that a store was dumped from exactly these shards.

    Raises:
        ManifestMismatchError: naming every field that differs.
    """
    manifest.require_same(
        {
            "shard_names": tuple(shards.names),
            "shard_lengths": tuple(shards.lengths.tolist()),
            "key_hashes": tuple(shards.key_hashes()),
        }
    )


def require_same_views(manifest: Manifest) -> ViewSpec:
    """The store's view spec, after checking that this machine renders it to the same bytes.

    Raises:
        ManifestMismatchError: the store's views were rendered by another version of the renderer.
        RendererError: this machine's renderer makes other bytes than that version.
    """
    spec = ViewSpec.model_validate(manifest.view_spec)
    manifest.require_same({"view_spec_hash": view_spec_hash(spec)})
    self_check()
    return spec


def stored_classes(store: LogitStore) -> ClassList | None:
    """The class list that the dump wrote beside the manifest, if the teacher's was known."""
    path = store.path / CLASSES
    if store.manifest.class_list is None:
        return None
    return replace(load_class_list(str(path)), name=store.manifest.class_list)
