"""Stage two, ``pretrain``: a student from the store alone.

Nothing here imports or builds a teacher; a test holds this.
"""

from __future__ import annotations

from functools import partial

import torch

from tinyvit_kd.config.stages import PretrainConfig
from tinyvit_kd.config.training import ScheduleConfig
from tinyvit_kd.config.views import ViewSpec
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import BlockMissingError, ConfigError
from tinyvit_kd.runtime.batch import Batch
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.watchdog import watched
from tinyvit_kd.stages.batches import StoredBatches, block_cache
from tinyvit_kd.stages.inputs import open_shards, require_same_shards, require_same_views, stored_classes
from tinyvit_kd.stages.sample_views import Pairing, SampleViews
from tinyvit_kd.stages.students import Task, train_student
from tinyvit_kd.stages.training_plan import Plan
from tinyvit_kd.store.manifest import Manifest
from tinyvit_kd.store.store import LogitStore
from tinyvit_kd.training.loss import soft_loss


def pretrain(config: PretrainConfig, job: Job) -> dict[str, float]:
    """Train a student on the views and probabilities of a store.

    Raises:
        StoreError: the store is missing, incomplete, or belongs to other shards or to another renderer.
        ReplayError: a replayed view is not the teacher's.
    """
    with watched(config.runtime.data_timeout):
        store = LogitStore.open(config.store.path)
    manifest = store.manifest
    shards = open_shards(config.shards, job, config.runtime)
    require_same_shards(manifest, shards)
    spec = require_same_views(manifest, job)
    views = _views_in_use(manifest, config.schedule)
    _require_blocks(store, views)
    task = Task(
        shards=shards,
        image_size=spec.size,
        num_classes=manifest.num_classes,
        classes=stored_classes(store),
        pairing=Pairing(manifest.seed, manifest.views, config.schedule.views_per_sample) if spec.mixes else None,
        make_batches=partial(_batches, config, store, spec, shards),
        objective=partial(soft_objective, config.loss.temperature),
        identity={
            "store": manifest.hash,
            "views": f"{views} in turn",  # a store may grow meanwhile
            "loss": config.loss.model_dump_json(),
        },
    )
    return train_student(config, task, job)


def soft_objective(temperature: float, student_logits: torch.Tensor, batch: Batch) -> dict[str, torch.Tensor]:
    """The soft loss, how often student and teacher agree on the best class, and the share of holes."""
    assert batch.targets is not None
    indices, probs, residual = batch.targets
    loss = soft_loss(student_logits, indices, probs, residual, batch.weights, temperature)
    teacher_top1 = indices.gather(1, probs.argmax(dim=1, keepdim=True)).squeeze(1)
    agrees = (student_logits.argmax(dim=1) == teacher_top1) * batch.weights
    return {"loss": loss, "agreement": agrees.mean(), "holes": (batch.weights == 0).float().mean()}


def _batches(config: PretrainConfig, store: LogitStore, spec: ViewSpec, shards: ShardSet, plan: Plan) -> StoredBatches:
    samples = SampleViews(shards.reader(), spec, store.manifest.seed)
    return StoredBatches(samples, block_cache(config.store, store, plan), config.store, store.manifest.views, plan)


def _views_in_use(manifest: Manifest, schedule: ScheduleConfig) -> int:
    """View numbers that a run needs, from 0.

    Raises:
        ConfigError: a sample would have the same view twice in one batch.
    """
    if schedule.views_per_sample > manifest.views:
        raise ConfigError(
            "the store has fewer views than an epoch takes of a sample",
            where="schedule.views_per_sample",
            found=f"{schedule.views_per_sample} views a sample, {manifest.views} in the store",
            fix="lower it, or dump more views",
        )
    return min(manifest.views, schedule.epochs * schedule.views_per_sample)


def _require_blocks(store: LogitStore, views: int) -> None:
    missing = store.missing_blocks(range(views))
    if missing:
        shard, view = missing[0]
        raise BlockMissingError(
            f"{len(missing)} of the {views * len(store.manifest.shard_names)} blocks that this run needs are missing",
            where=str(store.path),
            found=f"the first is view {view} of shard {store.manifest.shard_names[shard]}",
            fix="finish dump-logits (it makes only the missing blocks), or train fewer epochs",
        )
