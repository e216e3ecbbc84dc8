"""Stage three, ``finetune``: labelled shards, from a stage-two student or from scratch."""

from __future__ import annotations

from functools import partial

from tinyvit_kd.config.stages import FinetuneConfig
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.stages.batches import LabelledBatches
from tinyvit_kd.stages.inputs import (
    fingerprint,
    label_classes,
    label_fingerprint,
    open_shards,
    require_labelled,
    require_labels,
)
from tinyvit_kd.stages.replaying import check_views
from tinyvit_kd.stages.sample_views import SampleViews
from tinyvit_kd.stages.students import Task, train_student
from tinyvit_kd.stages.training_plan import Plan
from tinyvit_kd.training.objectives import PlainObjective


def finetune(config: FinetuneConfig, job: Job) -> dict[str, float]:
    """Train on labels.

    Raises:
        ConfigError: the number of classes is unknown, smaller than a label needs, or not that of the class list.
    """
    check_views(config.views, job)
    shards = open_shards(config.shards, job, config.runtime)
    classes = label_classes(config.shards, shards)
    num_classes = config.num_classes or (len(classes.ids) if classes is not None else None)
    if num_classes is None:
        require_labelled(shards)
        raise ConfigError(
            "the number of classes is not known",
            where="num_classes",
            fix="give num_classes, or a class list (shards.class_list, or classes.txt beside the shards)",
        )
    require_labels(shards, num_classes)
    if classes is not None and len(classes.ids) != num_classes:
        raise ConfigError(
            "the number of classes is not the length of the labels' class list",
            where="num_classes",
            found=f"{num_classes}, and {len(classes.ids)} classes in {classes.name}",
            fix="leave num_classes out, or name the list of these labels (shards.class_list)",
        )
    task = Task(
        shards=shards,
        image_size=config.views.size,
        num_classes=num_classes,
        classes=classes,
        pairs_seed=config.schedule.seed if config.views.mixes else None,
        make_batches=partial(_batches, config, shards),
        objective=PlainObjective(config.loss),
        identity={
            "shards": fingerprint(shards),
            "set of labels": label_fingerprint(shards),
            "views": config.views.model_dump_json(),
            "loss": config.loss.model_dump_json(),
        },
    )
    return train_student(config, task, job)


def _batches(config: FinetuneConfig, shards: ShardSet, plan: Plan) -> LabelledBatches:
    samples = SampleViews(shards.reader(), config.views, config.schedule.seed)
    return LabelledBatches(samples, plan, config.on_bad_image)
