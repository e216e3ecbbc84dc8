"""What stages two and three share: from a recipe and its batches to a trained model file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from timm.utils import ModelEmaV3

from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.stages import TrainingConfig
from tinyvit_kd.data.buffers import Maker
from tinyvit_kd.data.labels import ClassList
from tinyvit_kd.data.loader import loading
from tinyvit_kd.data.order import rank_lanes
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.head import freeze_body
from tinyvit_kd.models.modelfile import MODEL, ModelCard, save_model
from tinyvit_kd.models.student import build_student, student_spec, train_both_heads
from tinyvit_kd.runtime.batch import Batch
from tinyvit_kd.runtime.device import Normalizer, autocast, place_network
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import atomic_write, remove_unfinished, require_free_space, sole_writer, write_json
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.signals import stop_on_signals
from tinyvit_kd.runtime.watchdog import doing, watched
from tinyvit_kd.stages.evaluate import build_scorer
from tinyvit_kd.stages.inputs import check_schedule, micro_batches
from tinyvit_kd.stages.resuming import (
    SUMMARY,
    finished_summary,
    newest_checkpoint,
    require_same_everywhere,
    run_identity,
)
from tinyvit_kd.stages.sample_views import place
from tinyvit_kd.stages.starting import Start, starting_weights
from tinyvit_kd.stages.training_plan import Plan
from tinyvit_kd.stages.view_schedule import Counts, ViewSchedule
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoints
from tinyvit_kd.training.loop import Run, fit
from tinyvit_kd.training.objectives import Objective
from tinyvit_kd.training.optim import build_optimizer, build_scheduler, scaled_rates
from tinyvit_kd.training.state import State

RECIPE = "recipe.yaml"
FIRST_OF_AVERAGE = 0.1  # share of the first weights in the average at the end, above which a run says so


@dataclass(frozen=True)
class Task:
    """What a stage trains on, opened and checked."""

    shards: ShardSet
    image_size: int
    num_classes: int
    classes: ClassList | None
    pairs_seed: int | None  # where views are mixed
    make_batches: Callable[[Plan], Maker[int, Batch]]
    objective: Objective
    identity: dict[str, str]  # of the data: a checkpoint of other data is not continued
    two_heads: bool = False  # the objective takes the outputs of both heads of a distilled network
    stored_views: StoredViews | None = None  # where the views are a store's


# From the counts that a checkpoint kept (none at a start) and the epoch that begins next to what is used from then on.
StoredViews = Callable[[Counts | None, int], ViewSchedule]


def train_student(config: TrainingConfig, task: Task, job: Job) -> dict[str, float]:
    """Train, score and write the student; continues from the newest checkpoint of the run folder.

    Returns:
        the summary that is also written to ``summary.json``.

    Raises:
        ConfigError: the samples do not fill one step an epoch.
        CheckpointError: the run folder holds checkpoints of another recipe or of other data.
        BusyError: another process trains into the run folder.
        Preempted: a signal asked to stop; a checkpoint was written.
    """
    check_schedule(config.schedule, task.shards, job)
    with watched(config.runtime.data_timeout):
        start = starting_weights(config.student, task.classes, job)
        identity = task.identity | run_identity(config, task.num_classes, task.classes, start)
        require_same_everywhere(identity, job)
        finished = job.broadcast(finished_summary(config, identity) if job.is_main else None)
    if finished is not None:
        say(job, f"{config.output} is already finished; remove the folder to train again")
        return dict(finished)
    with sole_writer(config.output) if job.is_main else nullcontext():
        job.barrier()
        with watched(config.runtime.data_timeout):
            saved = newest_checkpoint(config, identity, job)
            plan = _plan(config, task, job, saved)
        state, card = _build(config, task, start, job)
        run = _describe(config, task, identity, job, plan, state)
        scorer = None
        if config.eval is not None:
            scorer = build_scorer(job, config.eval, config.runtime, run.normalize, card)
        _require_space(config, state)
        if saved is not None:
            state.restore(saved, job)
            say(job, f"continuing from step {state.step} of {run.total_steps}")
            del saved  # as much memory as the state has
        _announce(config, task, run, state)
        make, steps = task.make_batches(plan), range(state.step, run.total_steps)
        with stop_on_signals() as stop, loading(make, steps, config.runtime, job.device) as batches:
            results = fit(run, state, batches, task.objective, stop, scorer)
        return _finish(config, run, state, card, results)


def _plan(config: TrainingConfig, task: Task, job: Job, saved: dict[str, Any] | None) -> Plan:
    lanes = rank_lanes(config.schedule.lanes, job.rank, job.world_size)
    plan = Plan(tuple(task.shards.lengths.tolist()), config.schedule, lanes, task.pairs_seed)
    steps = plan.steps_per_epoch
    if not steps:
        raise ConfigError(  # a lane of whole pairs may be a sample shorter than its share of the set
            "the shard set is too small for one step an epoch of pairs that stay together",
            where="schedule.global_batch_size, schedule.lanes",
            found=f"{task.shards.total} samples, {config.schedule.global_batch_size} a step "
            f"from {config.schedule.lanes} lanes",
            fix="lower schedule.lanes so that each gives an even number of samples a step",
        )
    if task.stored_views is None:
        return plan
    # An epoch that has begun ends with the views that it began with.
    kept, epoch = (None, 0) if saved is None else (saved["kept"]["stored_views"], -(-saved["step"] // steps))
    return replace(plan, stored=task.stored_views(kept, epoch))


def _build(config: TrainingConfig, task: Task, start: Start, job: Job) -> tuple[State, ModelCard]:
    spec = student_spec(config.student, start.card)
    model = build_student(config.student, spec, task.num_classes, task.image_size, config.schedule.seed, start.initial)
    if task.two_heads:
        train_both_heads(model)
    if config.train.trainable == "head":
        freeze_body(model)
    place_network(model, job.device, config.runtime.channels_last)
    optimizer = build_optimizer(model, config.optim, config.schedule.global_batch_size)
    decay = config.train.ema_decay
    ema = ModelEmaV3(model, decay=decay) if decay is not None else None
    return State(model, optimizer, ema), ModelCard(
        architecture=spec.model_dump(mode="json"),
        num_classes=task.num_classes,
        image_size=task.image_size,
        mean=config.normalize.mean,
        std=config.normalize.std,
        class_name=task.classes.name if task.classes else None,
        class_ids=task.classes.ids if task.classes else None,
    )


def _describe(config: TrainingConfig, task: Task, identity: dict[str, str], job: Job, plan: Plan, state: State) -> Run:
    schedule, steps = config.schedule, plan.steps_per_epoch
    rates = build_scheduler(
        state.optimizer,
        config.optim,
        schedule.epochs * steps,
        round(schedule.warmup_epochs * steps),
        schedule.global_batch_size,
    )
    return Run(
        job=job,
        folder=config.output,
        config=config.train,
        identity=identity,
        steps_per_epoch=steps,
        total_steps=schedule.epochs * steps,
        global_batch_size=schedule.global_batch_size,
        micro_batches=micro_batches(schedule, job),
        seed=schedule.seed,
        clip_grad=config.optim.clip_grad,
        normalize=Normalizer(config.normalize.mean, config.normalize.std, job.device, config.runtime.channels_last),
        autocast=partial(autocast, job.device, config.runtime.precision),
        set_rates=rates.step_update,
        name_samples=partial(_name_samples, task.shards, plan),
        kept={} if plan.stored is None else {"stored_views": plan.stored.counts},
        compile=config.runtime.compile,
        fsync=config.runtime.fsync,
        data_timeout=config.runtime.data_timeout,
    )


def _name_samples(shards: ShardSet, plan: Plan, step: int, rows: Sequence[int]) -> list[str]:
    """Names of some samples of this process's batch at a step."""
    _, numbers, indexes = plan.samples(step)
    reader = shards.reader()
    samples = [row // plan.views_per_sample for row in rows]
    return [place(reader, int(numbers[sample]), int(indexes[sample])) for sample in samples]


def _require_space(config: TrainingConfig, state: State) -> None:
    """Room for the checkpoints that are kept and one more: weights, two moments, and an average if there is one."""
    weights = sum(tensor.numel() * tensor.element_size() for tensor in state.model.state_dict().values())
    needed = (config.train.keep_checkpoints + 1) * weights * (3 if state.ema is None else 4)
    there = sum(path.stat().st_size for path in checkpoints(config.output / CHECKPOINTS))
    require_free_space(config.output, max(0, needed - there))


def _announce(config: TrainingConfig, task: Task, run: Run, state: State) -> None:
    if run.job.is_main:
        remove_unfinished(config.output)
        atomic_write(config.output / RECIPE, dump_yaml(config).encode())
    rates = scaled_rates(config.optim, run.global_batch_size)
    parameters = sum(parameter.numel() for parameter in state.model.parameters())
    say(
        run.job,
        f"{config.output}: {parameters / 1e6:.2f}M parameters, {task.num_classes} classes, {task.image_size} pixels; "
        f"{task.shards.total:,} samples in {len(task.shards.names)} shards, {run.steps_per_epoch} steps an epoch, "
        f"{run.total_steps} steps of {run.global_batch_size} samples on {run.job.world_size} process(es); "
        f"learning rate {rates.peak:.3g}, from {rates.warmup:.3g} to {rates.minimum:.3g}",
    )
    for doubt in _doubts(config, run.total_steps):
        say(run.job, doubt)


def _doubts(config: TrainingConfig, steps: int) -> Iterator[str]:
    """What may be meant, but is more often a mistake."""
    decay = config.train.ema_decay or 0.0
    if (first := decay**steps) > FIRST_OF_AVERAGE:
        yield (
            f"at the end {first:.0%} of the average are the weights of the first steps, and the average is what is "
            f"scored and written: lower train.ema_decay ({decay:g}), or leave it out, for a short run"
        )
    if config.train.trainable == "head" and config.student.init_from is None:
        yield (
            "a head alone is trained behind random weights: name those to start from in student.init_from, or set "
            "train.trainable to all"
        )


def _finish(
    config: TrainingConfig, run: Run, state: State, card: ModelCard, results: dict[str, float]
) -> dict[str, float]:
    summary = results | {
        "step": state.step,
        "samples_seen": state.step * run.global_batch_size,
        "digests_checked": state.digests_checked,
        "skipped_steps": state.skipped_steps,
    }
    if run.job.is_main:
        path, fsync = run.folder / MODEL, config.runtime.fsync
        with watched(config.runtime.data_timeout):
            doing(f"writing {path}")
            save_model(path, state.scored.state_dict(), replace(card, step=state.step), fsync)
            write_json(run.folder / SUMMARY, {"results": summary, "identity": run.identity}, fsync)
    run.job.barrier()
    say(run.job, f"wrote {run.folder / MODEL}")
    return summary
