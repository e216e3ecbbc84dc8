"""The plan of an evaluation."""

from __future__ import annotations

from dataclasses import replace

from tinyvit_kd.batches.layout import batch_layout
from tinyvit_kd.config.recipes import EvaluateConfig
from tinyvit_kd.data.labels.class_list import ClassList, load_class_list
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.model_location import is_there
from tinyvit_kd.planning.chain import Planned
from tinyvit_kd.planning.checks import check_labels
from tinyvit_kd.planning.context import Context
from tinyvit_kd.planning.memory import scoring_memory
from tinyvit_kd.planning.models import PlannedStudent, planned_model
from tinyvit_kd.planning.stage_plan import StagePlan, Work
from tinyvit_kd.planning.training_plan import FORWARD
from tinyvit_kd.runs.class_lists import card_classes
from tinyvit_kd.runs.scoring import require_views_of


def plan_evaluation(planned: Planned, context: Context) -> StagePlan:
    """What an evaluation will take; what is wrong with it becomes findings."""
    config = planned.config
    assert isinstance(config, EvaluateConfig)
    images = context.images(planned, config.shards)
    model = _model(planned, config, context)
    plan = StagePlan(
        recipe=planned.path,
        stage=planned.stage,
        size=0 if model is None else model.card.image_size,
        processes=context.assumptions.processes,
        workers=config.runtime.workers,
    )
    if model is not None:
        precision = context.precision(config.runtime, trains=False)
        layout = batch_layout(config.batch_size, model.card.image_size, labels=True)
        memory = scoring_memory(config.runtime, model.cost, layout, config.batch_size, precision)
        plan = replace(plan, network=model.cost, memory=memory)
        with context.findings.checking(planned.path):
            views = config.views.over(model.card.eval_views)
            require_views_of(views.size, model.card.image_size, "views.size")
    if images is None:
        return plan
    total = images.shards.total
    read = None if images.bytes_per_image is None else total * images.bytes_per_image
    plan = replace(
        plan,
        images=len(images.shards.names),
        samples=total,
        scored=total,
        decodes=total,
        student_passes=total,
        image_bytes=read,
        work=Work(views=total, student=total * FORWARD, read=read),
    )
    if model is None:
        return plan
    classes: ClassList | None = card_classes(model.card)
    with context.findings.checking(planned.path):
        classes = load_class_list(config.class_list) if config.class_list is not None else classes
    check_labels(planned, config.shards, images, (model.card.num_classes, classes), "shards", context)
    return replace(plan, multiply_adds=float(total * model.cost.multiply_adds))


def _model(planned: Planned, config: EvaluateConfig, context: Context) -> PlannedStudent | None:
    path = config.model
    made = None if path is None else context.made_student(path)
    if path is not None and context.is_to_come(planned, "model", path):
        return None
    if made is None and path is not None and context.chain.maker(path) is not None:
        return None  # what is wrong with the recipe that makes it has been said
    with context.findings.checking(planned.path):
        if made is None and path is not None and not is_there(path):
            raise CheckpointError(
                "there is no model here",
                where=f"model: {path}",
                fix="correct the path, or give the recipe that makes it, too",
            )
        return planned_model(config, made)
    return None
