"""What several stages open and check before a device is touched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from tinyvit_kd.config.data import LabelledShardsConfig, ShardsConfig
from tinyvit_kd.config.load import validate
from tinyvit_kd.config.training import RuntimeConfig, ScheduleConfig
from tinyvit_kd.config.views import TransformConfig, ViewSpec
from tinyvit_kd.data.labels import ClassList, class_map, load_class_list
from tinyvit_kd.data.order import check_lanes
from tinyvit_kd.data.shards import CLASSES, ShardSet
from tinyvit_kd.errors import ConfigError, ManifestMismatchError, StoreError
from tinyvit_kd.models.modelfile import ModelCard
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.runtime.watchdog import watched
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.views.replay import PLACE, build_transform, transform_versions
from tinyvit_kd.views.selfcheck import check_native, self_check
from tinyvit_kd.views.spec import parse_auto_augment, view_spec_hash


def open_shards(config: ShardsConfig, job: Job, runtime: RuntimeConfig) -> ShardSet:
    """The shard set with its byte indexes; rank 0 fetches and indexes what is missing, the others wait for it."""
    with job.main_first(), watched(runtime.data_timeout):
        shards = ShardSet.load(config.path, config.split, cache_dir=config.cache_dir, index_dir=config.index_dir)
        shards.key_hashes()
    return shards


def fingerprint(shards: ShardSet) -> str:
    """16 hexadecimal digits over all keys and image sizes, in order."""
    return f"{hash64(*shards.key_hashes()):016x}"


def label_classes(config: LabelledShardsConfig, shards: ShardSet) -> ClassList | None:
    """The class list of a shard set's labels: the recipe's, else the one that lies beside the shards."""
    if config.class_list is not None:
        return load_class_list(config.class_list)
    return shards.class_list


def require_labels(shards: ShardSet, num_classes: int) -> None:
    """Check that the shards are labelled, and that every label is a class.

    Raises:
        ConfigError: naming the largest label.
    """
    largest = max((int(shards.index(shard).labels.max(initial=-1)) for shard in range(len(shards.names))), default=-1)
    if largest < 0:
        raise ConfigError("the shards have no labels", where=shards.name, expected=".cls or .json members")
    if largest >= num_classes:
        raise ConfigError(
            "a label is larger than the number of classes allows",
            where=shards.name,
            found=f"label {largest}",
            expected=f"at most {num_classes - 1}, for {num_classes} classes",
            fix="correct the class list (shards.class_list) or num_classes",
        )


def label_map(labels: ClassList | None, classes: ClassList | None, num_classes: int) -> npt.NDArray[np.int64] | None:
    """Where each class of the labels is in a head: int64 [classes of the labels], -1 where it is not.

    Args:
        labels: the labels' list, where known.
        classes: the head's, where known.
        num_classes: of the head.

    Returns:
        None where they are the same, or have to be taken for the same.

    Raises:
        ConfigError: they differ in number and the head's are not known, or have little in common.
    """
    if labels is None or (classes is not None and labels.ids == classes.ids):
        return None
    if classes is None:
        if len(labels.ids) == num_classes:
            return None
        raise ConfigError(
            "the labels' classes are not the network's, and it is not known which those are",
            found=f"{num_classes} classes in the network, {len(labels.ids)} in {labels.name}",
            fix="name the class list of the model (class_list) or of the teacher (teacher.class_list), for example "
            "imagenet22k",
        )
    found = class_map(classes, labels)
    if (found >= 0).sum() < 0.5 * len(found):
        raise ConfigError(
            "fewer than half of the labels' classes are among the network's",
            found=f"{int((found >= 0).sum())} of {len(found)} classes of {labels.name} in {classes.name}",
            fix="check the class lists of the labelled shards and of the model or the teacher",
        )
    return found


def check_schedule(schedule: ScheduleConfig, shards: ShardSet, job: Job) -> None:
    """Check lanes, batch and micro-batch against the world size and the number of samples.

    Raises:
        ConfigError: naming the nearest values that fit.
    """
    check_lanes(schedule.lanes, schedule.global_batch_size, job.world_size, schedule.views_per_sample)
    micro_batches(schedule, job)
    needed = schedule.global_batch_size // schedule.views_per_sample
    if shards.total < needed:
        raise ConfigError(
            "the shard set is too small for one step an epoch",
            where="schedule.global_batch_size",
            found=f"{needed} samples a step, {shards.total} samples in {shards.name}",
            fix="lower schedule.global_batch_size (and schedule.lanes)",
        )


def micro_batches(schedule: ScheduleConfig, job: Job) -> int:
    """Forward-backward passes a step, of each process.

    Raises:
        ConfigError: a process's share of a batch is not a whole number of micro-batches.
    """
    local = schedule.global_batch_size // job.world_size
    size = schedule.micro_batch_size or local
    if local % size:
        raise ConfigError(
            "a process's share of a batch is not a whole number of micro-batches",
            where="schedule.micro_batch_size",
            found=f"{local} samples on each of {job.world_size} process(es), in micro-batches of {size}",
            expected=f"a divisor of {local}",
        )
    return local // size


def card_classes(card: ModelCard | None) -> ClassList | None:
    """The class list that a model file names."""
    if card is None or card.class_ids is None:
        return None
    return ClassList(card.class_name or "its own", card.class_ids)


def require_same_shards(manifest: Manifest, shards: ShardSet) -> None:
    """Check that a store was dumped from exactly these shards.

    Raises:
        ManifestMismatchError: naming what differs, and the first shard that does.
    """
    same = {"shard_names": tuple(shards.names), "shard_lengths": tuple(shards.lengths.tolist())}
    manifest.require_same(same, where=shards.places[0].rpartition("/")[0] or shards.name)
    pairs = zip(shards.key_hashes(), manifest.key_hashes, strict=True)
    changed = [shard for shard, (found, stored) in enumerate(pairs) if found != stored]
    if changed:
        raise ManifestMismatchError(
            "a shard does not hold the samples that the teacher saw",
            where=shards.places[changed[0]],
            found=f"other keys, image sizes or another order, in {len(changed)} of {len(shards.names)} shards",
            fix="use the shards that the store was dumped from, or dump these into another store",
        )


def require_same_teaching(store: LogitStore, first: Manifest) -> None:
    """Check that a further teacher saw the views of the first one's store, and names classes alike.

    Raises:
        ManifestMismatchError: naming what differs.
    """
    names = ("shard_names", "shard_lengths", "key_hashes", "view_spec_hash", "seed", "num_classes", "class_list_hash")
    store.manifest.require_same({name: getattr(first, name) for name in names}, where=str(store.path))


def check_views(spec: ViewSpec, job: Job) -> None:
    """Check that this machine can render a spec, and renders views as they are defined; say what renders them.

    Raises:
        ConfigError: the policy is not one that can be rendered, or the transform cannot be made.
        RendererError: the renderer makes other bytes.
    """
    if spec.transform is not None:
        build_transform(spec.transform)
    elif spec.auto_augment is not None:
        parse_auto_augment(spec.auto_augment)
    self_check()
    renderer = check_native()
    if spec.transform is not None:
        generators = "Python's, NumPy's and torch's default generators"
        renderer = f"views come from {spec.transform}, replayed by seeding {generators}"
    say(job, renderer)


def require_same_views(manifest: Manifest, job: Job, trusted: bool, consent: str) -> ViewSpec:
    """The store's view spec, after checking that this machine renders it to the same bytes.

    Args:
        trusted: whether a transform that the store names may be imported and called.
        consent: what a user does who trusts it.

    Raises:
        ConfigError: the store's views come from a transform, which is not trusted, or cannot be made here.
        ManifestMismatchError: the store's views were rendered by another version of the renderer.
        RendererError: this machine's renderer makes other bytes than that version.
    """
    spec = validate(ViewSpec, manifest.view_spec, f"view_spec of the store of {manifest.shard_set}")
    manifest.require_same({"view_spec_hash": view_spec_hash(spec)})
    if spec.transform is not None:
        _require_trust(spec.transform, trusted, consent)
        _tell_versions(manifest, spec, job)
    check_views(spec, job)
    return spec


def _require_trust(transform: TransformConfig, trusted: bool, consent: str) -> None:
    if not trusted:  # a store may be somebody else's, and any function of any package can be named in its manifest
        raise ConfigError(
            "the store's views come from a transform, which this run would import and call",
            where=f"{PLACE} of the store",
            found=transform.model_dump_json(exclude_defaults=True),
            fix=f"if you trust whoever made the store, {consent}",
        )


def _tell_versions(manifest: Manifest, spec: ViewSpec, job: Job) -> None:
    here = transform_versions(spec)
    there = {name: manifest.versions.get(name, "absent") for name in here}
    differing = [f"{name} was {there[name]}, is {here[name]}" for name in here if there[name] != here[name]]
    if differing:
        say(job, f"versions differ from the dump's: {', '.join(differing)}; digests will show whether views differ")


def stored_classes(store: LogitStore) -> ClassList | None:
    """The class list that the dump wrote beside the manifest, if the teacher's was known.

    Raises:
        StoreError: it is missing, or not the one that the manifest names.
    """
    path, manifest = store.path / CLASSES, store.manifest
    if manifest.class_list is None:
        return None
    classes = load_class_list(str(path)) if path.is_file() else None
    if classes is None or classes.hash != manifest.class_list_hash:
        raise StoreError(
            "the store's class list is missing or not the teacher's",
            where=str(path),
            found="no such file" if classes is None else f"hash {classes.hash}",
            expected=f"hash {manifest.class_list_hash} ({manifest.class_list})",
            fix="run dump-logits again, which writes it",
        )
    return replace(classes, name=manifest.class_list)
