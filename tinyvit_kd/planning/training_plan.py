"""The plans of stages two and three."""

from __future__ import annotations

from dataclasses import replace

from tinyvit_kd.batches.layout import batch_layout
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.batches.view_schedule import ViewSchedule
from tinyvit_kd.config.recipes import FinetuneConfig, PretrainConfig, TrainingConfig
from tinyvit_kd.data.order import check_lanes, rank_lanes
from tinyvit_kd.errors import CheckpointError
from tinyvit_kd.models.model_location import is_there
from tinyvit_kd.planning.chain import Planned
from tinyvit_kd.planning.checks import check_scored, check_task, stored_facts
from tinyvit_kd.planning.context import Context, Task
from tinyvit_kd.planning.images import Images
from tinyvit_kd.planning.memory import cache_bytes, training_memory
from tinyvit_kd.planning.models import PlannedStudent, planned_student, require_fitting_weights
from tinyvit_kd.planning.stage_plan import Memory, StagePlan, Work
from tinyvit_kd.runs.batch_sizes import micro_batches, require_full_step
from tinyvit_kd.runs.checkpoint_sizes import checkpoint_bytes, checkpoints_bytes
from tinyvit_kd.runs.training_data import require_steps
from tinyvit_kd.runs.work_folder import is_begun, run_folder
from tinyvit_kd.runtime.wording import binary_size
from tinyvit_kd.training.optimizer_state import state_bytes
from tinyvit_kd.training.timm_optimizers import require_optimizer

FORWARD = 1 / 3  # of a training step's operations: a backward pass takes as many as two forward passes


def plan_training(planned: Planned, context: Context) -> StagePlan:
    """What a training will take; what is wrong with it becomes findings."""
    config = planned.config
    assert isinstance(config, PretrainConfig | FinetuneConfig)
    images = context.images(planned, config.shards)
    plan = StagePlan(
        recipe=planned.path,
        stage=planned.stage,
        size=0,
        processes=context.assumptions.processes,
        workers=config.runtime.workers,
        epochs=config.schedule.epochs,
        views_per_decode=config.schedule.views_per_sample,
        lanes=config.schedule.lanes,
        images=None if images is None else len(images.shards.names),
        samples=None if images is None else images.shards.total,
    )
    with context.findings.checking(planned.path):
        if is_begun(config.output):
            context.findings.note(
                planned.path, f"{config.output} is there already: a run in it goes on, or is refused if it is another"
            )
    steps = _checked_steps(planned, config, images, context)
    is_known = _is_known(planned, config, context)
    task = _task(planned, config, images, context)
    if task is None:
        return plan
    context.tasks[planned] = task
    plan = replace(plan, size=task.spec.size, mixes=task.spec.mixes)
    student = _student(planned, config, task, context)
    if student is not None:
        context.students[planned] = student
        plan = replace(plan, network=student.cost)
    if student is not None and is_known:
        plan = replace(
            plan,
            checkpoint_bytes=checkpoint_bytes(config, student.network),
            checkpoints=config.train.keep_checkpoints + 1,
        )
        context.needs.append((planned, run_folder(config), checkpoints_bytes(config, student.network)))
    if images is None:
        return plan
    scored_size = config.student.final_size(task.spec.size)
    scored = check_scored(planned, config, task.num_classes, task.classes, scored_size, context)
    return _numbers(plan, planned, config, images, task, student, scored, context) if steps and is_known else plan


def _checked_steps(planned: Planned, config: TrainingConfig, images: Images | None, context: Context) -> bool:
    """Check lanes, batch and samples; returns whether there are steps to count."""
    schedule, before = config.schedule, len(context.findings.wrong)
    with context.findings.checking(planned.path):
        check_lanes(
            schedule.lanes, schedule.global_batch_size, context.assumptions.processes, schedule.views_per_sample
        )
    with context.findings.checking(planned.path):
        micro_batches(schedule, context.job)
    if images is not None:
        with context.findings.checking(planned.path):
            require_full_step(schedule, images.shards)
    return len(context.findings.wrong) == before


def _is_known(planned: Planned, config: TrainingConfig, context: Context) -> bool:
    """Check the optimiser; returns whether there is such a one."""
    with context.findings.checking(planned.path):
        require_optimizer(config.optim)
        return True
    return False


def _task(
    planned: Planned, config: PretrainConfig | FinetuneConfig, images: Images | None, context: Context
) -> Task | None:
    if isinstance(config, PretrainConfig):
        stores, views = stored_facts(planned, config, images, context)
        if not stores:
            return None
        first = stores[0]
        labels = config.loss.uses_labels
        if labels:
            check_task(planned, config, images, first.num_classes, first.classes, context)
        seed = first.seed if first.spec.mixes else None
        both = config.loss.kind == "token"
        return Task(first.spec, first.num_classes, first.classes, seed, stores, views, labels, both)
    num_classes, classes = check_task(planned, config, images, None, None, context)
    seed = config.schedule.seed if config.views.mixes else None
    return None if num_classes is None else Task(config.views, num_classes, classes, seed)


def _student(planned: Planned, config: TrainingConfig, task: Task, context: Context) -> PlannedStudent | None:
    start = config.student.init_from
    made = context.made_student(start)
    to_come = context.is_to_come(planned, "student.init_from", start)
    if start is not None and made is None and not is_there(start) and not to_come:
        others = [each.makes for each in context.chain.of_stage("pretrain") if each is not planned]
        context.findings.refuse(
            planned.path,
            CheckpointError(
                "there is nothing to start from",
                where=f"student.init_from: {start}",
                expected=f"{' or '.join(map(str, others))}, which the plan's pretrain makes" if others else "",
                fix="correct the path, or give the recipe that makes it, too",
            ),
        )
        if not config.student.given:
            return None
    if to_come and not config.student.given:
        return None
    with context.findings.checking(planned.path):
        student = planned_student(config, made, task.num_classes, task.classes, task.spec.size, task.both_heads)
        if made is not None or (start is not None and is_there(start)):
            with context.findings.checking(planned.path):
                require_fitting_weights(config.student, made, student, task.classes, context.job)
        return student
    return None


def _numbers(
    plan: StagePlan,
    planned: Planned,
    config: TrainingConfig,
    images: Images,
    task: Task,
    student: PlannedStudent | None,
    scored: tuple[int, float | None],
    context: Context,
) -> StagePlan:
    schedule = config.schedule
    processes = context.assumptions.processes
    used = None if task.views is None else ViewSchedule(schedule.views_per_sample, ((0, task.views),), None)
    lengths = tuple(images.shards.lengths.tolist())
    order = StepPlan(lengths, schedule, rank_lanes(schedule.lanes, 0, processes), task.pairs_seed, used)
    with context.findings.checking(planned.path):
        require_steps(order)
    total = schedule.epochs * order.steps_per_epoch
    views = total * schedule.global_batch_size
    samples = views // schedule.views_per_sample
    evaluations = -(-schedule.epochs // config.train.evaluate_every) if scored[0] else 0
    passes = evaluations * scored[0] * (1 if config.train.ema_decay is None else 2)
    decodes = samples * _decodes_per_sample(config, task)
    image_bytes = None if images.bytes_per_image is None else decodes * images.bytes_per_image
    if image_bytes is not None:
        image_bytes += passes * (scored[1] or 0)
    store_bytes = sum(views * each.record_bytes for each in task.stores)
    plan = replace(
        plan,
        steps=total,
        views=views,
        scored=passes,
        decodes=decodes + passes,
        student_passes=views + passes,
        backward_passes=views,
        image_bytes=image_bytes,
        more_images_read=bool(passes) and scored[1] is None,
        store_bytes=store_bytes if task.stores else None,
        work=Work(
            views=views + passes,
            student=views * (1.0 if student is None else student.share) + passes * FORWARD,
            read=None if image_bytes is None else image_bytes + store_bytes,
        ),
    )
    if student is None:
        return plan
    cost = student.cost
    again = 1 if config.student.grad_checkpointing else 0
    at_full_size = views * student.share
    forward = at_full_size * (1 + again) + passes
    backward = 2 * at_full_size if config.train.trainable == "all" else 0
    every = config.train.checkpoint_every
    written = (total // every + evaluations + 1) * (plan.checkpoint_bytes or 0)
    return replace(
        plan,
        multiply_adds=float((forward + backward) * cost.multiply_adds),
        written=written,
        memory=_memory(planned, config, task, student, order, context),
    )


def _decodes_per_sample(config: TrainingConfig, task: Task) -> int:
    """How often an epoch decodes each image: partners that are in another batch, or of further views, are extra."""
    if task.pairs_seed is None:
        return 1
    schedule = config.schedule
    views = schedule.views_per_sample
    together = schedule.global_batch_size // schedule.lanes // views % 2 == 0
    own = 1 if together else 2
    return own if task.views is None else own + (views - 1)


def _memory(
    planned: Planned,
    config: TrainingConfig,
    task: Task,
    student: PlannedStudent,
    order: StepPlan,
    context: Context,
) -> Memory:
    topks = [each.topk for each in task.stores] or None
    layout = batch_layout(order.batch_size, task.spec.size, topks, task.labels, task.labels and task.spec.mixes)
    blocks = 0
    if isinstance(config, PretrainConfig):
        blocks, needed = cache_bytes(config, task.stores, order)
        if blocks < needed:
            context.findings.note(
                planned.path,
                f"store.block_cache_mib is less than the {binary_size(needed)} that a process's lanes read at a time: "
                "blocks will be read more than once",
            )
    micro = config.schedule.micro_batch_size or order.batch_size
    precision = context.precision(config.runtime, trains=True)
    moments = state_bytes(student.network, config.optim)
    return training_memory(config, student.cost, moments, layout, min(micro, order.batch_size), precision, blocks)
