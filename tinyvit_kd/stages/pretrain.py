"""Stage two, ``pretrain``: a student from the store alone.

Nothing here imports or builds a teacher; a test holds this.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import xxhash

from tinyvit_kd.config.stages import PretrainConfig
from tinyvit_kd.config.views import ViewSpec
from tinyvit_kd.data.labels import ClassList
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import BlockMissingError, ConfigError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.watchdog import watched
from tinyvit_kd.stages.batches import Labels
from tinyvit_kd.stages.inputs import (
    label_classes,
    label_fingerprint,
    label_map,
    open_shards,
    require_labelled,
    require_labels,
)
from tinyvit_kd.stages.replaying import require_same_shards, require_same_teaching, require_same_views, stored_classes
from tinyvit_kd.stages.sample_views import SampleViews
from tinyvit_kd.stages.stored_batches import StoredBatches, block_caches
from tinyvit_kd.stages.students import Task, train_student
from tinyvit_kd.stages.training_plan import Plan
from tinyvit_kd.stages.view_schedule import Counts, ViewSchedule
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.objectives import DistillObjective
from tinyvit_kd.training.targets import Teachers


def pretrain(config: PretrainConfig, job: Job) -> dict[str, float]:
    """Train a student on the views of a store, and on the probabilities of it and of further teachers' stores.

    Raises:
        StoreError: a store is missing, incomplete, or belongs to other shards, views or to another renderer.
        ConfigError: the loss needs labels, and there are none of the store's classes.
        ReplayError: a replayed view is not the teacher's.
    """
    return train_student(config, open_task(config, job), job)


def open_task(config: PretrainConfig, job: Job) -> Task:
    """Shards and stores of a recipe, opened and checked.

    Raises:
        StoreError, ConfigError: as ``pretrain``.
    """
    paths = [config.store.path, *(other.path for other in config.store.others)]
    with watched(config.runtime.data_timeout):
        stores = [LogitStore.open(path) for path in paths]
    manifest = stores[0].manifest
    shards = open_shards(config.shards, job, config.runtime)
    require_same_shards(manifest, shards)
    for other in stores[1:]:
        require_same_teaching(other, manifest)
    spec = require_same_views(manifest, job, config.store.trust_transform, "set store.trust_transform: true")
    classes = stored_classes(stores[0])
    weights = [config.store.weight, *(other.weight for other in config.store.others)]
    teachers = Teachers([store.manifest.topk for store in stores], weights)
    taught = [f"{share:.6g} of {store.manifest.hash}" for share, store in zip(teachers.shares, stores, strict=True)]
    used = config.loss.uses_labels
    class_map, labelled = _labels(config, shards, classes, manifest.num_classes) if used else (None, {})
    return Task(
        shards=shards,
        image_size=spec.size,
        num_classes=manifest.num_classes,
        classes=classes,
        pairs_seed=manifest.seed if spec.mixes else None,
        make_batches=partial(_batches, config, stores, spec, shards, class_map),
        objective=DistillObjective(config.loss, teachers),
        identity={
            "store": " + ".join(taught),
            "view schedule": config.store.view_schedule,  # not V: a store may grow meanwhile
            "loss": config.loss.model_dump_json(),
            **labelled,
        },
        two_heads=config.loss.kind == "token",
        stored_views=partial(_views, config, stores, job),
    )


def _labels(
    config: PretrainConfig, shards: ShardSet, classes: ClassList | None, num_classes: int
) -> tuple[npt.NDArray[np.int64] | None, dict[str, str]]:
    """Where each class of the labels is in the head (``label_map``), and what of the labels a run's identity names."""
    labels = label_classes(config.shards, shards)
    if labels is None and classes is not None:
        require_labelled(shards)
        raise ConfigError(
            "the loss uses labels, and their class list is not known",
            where="shards.class_list",
            found="no classes.txt beside the shards",
            expected=f"the list of the labels, whose classes are then looked up in the teacher's, {classes.name}",
            fix=f"name it; {classes.name} itself, if the labels are numbered as the teacher's classes are",
        )
    require_labels(shards, len(labels.ids) if labels is not None else num_classes)
    class_map = label_map(labels, classes, num_classes)
    return class_map, {"class list of the labels": _map_hash(class_map), "set of labels": label_fingerprint(shards)}


def _map_hash(class_map: npt.NDArray[np.int64] | None) -> str:
    return "the teacher's" if class_map is None else f"another, {xxhash.xxh3_64_hexdigest(class_map.tobytes())}"


def _batches(
    config: PretrainConfig,
    stores: list[LogitStore],
    spec: ViewSpec,
    shards: ShardSet,
    class_map: npt.NDArray[np.int64] | None,
    plan: Plan,
) -> StoredBatches:
    reader = shards.reader()
    samples = SampleViews(reader, spec, stores[0].manifest.seed)
    labels = Labels(reader, class_map) if config.loss.uses_labels else None
    return StoredBatches(samples, block_caches(config.store, stores, plan), config.store, plan, labels)


def _views(config: PretrainConfig, stores: list[LogitStore], job: Job, kept: Counts | None, epoch: int) -> ViewSchedule:
    """Which views are used; from ``epoch`` on also those that were dumped since the run was stopped.

    Raises:
        ConfigError: a sample would have the same view twice in one batch, or the recipe takes views away.
        BlockMissingError: the run would come to views that are not there.
    """
    schedule, limit = config.schedule, config.store.views
    # A store that is just growing must not stop a run that goes on, and may look different from each process.
    counted = min(store.manifest.views if kept is None else store.complete_views() for store in stores)
    count = job.broadcast(min(counted, limit or counted))
    seed = schedule.seed if config.store.view_schedule == "permutation" else None
    views = ViewSchedule(schedule.views_per_sample, kept or ((0, count),), seed)
    if kept is not None:
        views = views.grown(count, epoch)
    used = views.counts[-1][1]
    _require_views_per_sample(schedule.views_per_sample, used)
    if limit is not None:
        _require_limit(limit, used, goes_on=kept is not None)
    for store in stores:
        _require_blocks(store, views.used(range(max(0, epoch - 1), schedule.epochs)))
    of = f"of each sample, of {len(stores)} teacher(s)"
    say(job, f"{used} stored views {of}; view schedule: {config.store.view_schedule}")
    return views


def _require_views_per_sample(wanted: int, used: int) -> None:
    if wanted > used:
        raise ConfigError(
            "the store has fewer views than an epoch takes of a sample",
            where="schedule.views_per_sample",
            found=f"{wanted} views a sample, {used} in the store",
            fix="lower it, or dump more views",
        )


def _require_limit(limit: int, used: int, goes_on: bool) -> None:
    """A run cannot begin with more views than there are, nor go on with fewer than it has used."""
    if goes_on and limit < used:
        what, expected = "the run has used more views already", f"{used} or more, or null"
        fix = "with fewer views, start a run in another output folder"
    elif not goes_on and limit > used:
        what, expected = "the store has fewer views than are asked for", f"at most {used}"
        fix = "lower it, leave it out to use all there are, or dump more views"
    else:
        return
    raise ConfigError(what, where="store.views", found=str(limit), expected=expected, fix=fix)


def _require_blocks(store: LogitStore, views: list[int]) -> None:
    missing = store.missing_blocks(views)
    if missing:
        shard, view = missing[0]
        raise BlockMissingError(
            f"{len(missing)} of the {len(views) * len(store.manifest.shard_names)} blocks "
            "that this run needs are missing",
            where=str(store.path),
            found=f"the first is view {view} of shard {store.manifest.shard_names[shard]}",
            fix="finish dump-logits (it makes only the missing blocks), lower store.views, or train fewer epochs",
        )
