"""The run that stages two and three share: from a recipe and its data to a trained model file."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

from timm.utils import ModelEmaV3

from tinyvit_kd.batches.sample_views import sample_name
from tinyvit_kd.batches.step_plan import StepPlan
from tinyvit_kd.config.load import dump_yaml
from tinyvit_kd.config.recipes import TrainingConfig
from tinyvit_kd.data.loader import loading_in_turns, steps_in_work
from tinyvit_kd.data.shards import ShardSet
from tinyvit_kd.models.export import export_student
from tinyvit_kd.models.head import freeze_body
from tinyvit_kd.models.modelfile import MODEL, RAW_MODEL, ModelCard, save_model
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.models.plain_card import without_fetching
from tinyvit_kd.models.student import build_student, student_spec, train_both_heads
from tinyvit_kd.runs.attempts import Attempts, attempting
from tinyvit_kd.runs.batch_sizes import check_schedule, micro_batches
from tinyvit_kd.runs.cached_shards import counted_by, say_cached, turns_with_shards
from tinyvit_kd.runs.checkpoint_sizes import checkpoints_bytes
from tinyvit_kd.runs.fetched_weights import fetched_before, note_fetched, require_weights
from tinyvit_kd.runs.first_weights import FirstWeights, read_first_weights
from tinyvit_kd.runs.identity import require_same_everywhere, run_identity
from tinyvit_kd.runs.input_sizes import input_sizes, sizes_told
from tinyvit_kd.runs.open_home import run_home
from tinyvit_kd.runs.request_figures import request_figures
from tinyvit_kd.runs.results import write_student_results
from tinyvit_kd.runs.resume import finished_summary, newest_checkpoint, write_summary
from tinyvit_kd.runs.run_files import ATTEMPTS, RECIPE
from tinyvit_kd.runs.run_home import RunHome
from tinyvit_kd.runs.run_log import student_log
from tinyvit_kd.runs.run_metrics import student_metrics
from tinyvit_kd.runs.run_progress import student_progress
from tinyvit_kd.runs.scoring import Scorer, build_scorer
from tinyvit_kd.runs.start_report import report_start
from tinyvit_kd.runs.training_data import TrainingData, step_plan
from tinyvit_kd.runs.work_folder import run_folder
from tinyvit_kd.runtime.compiling import Compiler, compiler_of
from tinyvit_kd.runtime.device import move_to_device
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.files import atomic_write, remove_unfinished, require_free_space
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.peer_watch import kept_whole
from tinyvit_kd.runtime.signals import stop_on_signals
from tinyvit_kd.runtime.watchdog import doing, watched
from tinyvit_kd.training.checkpoint import CHECKPOINTS, checkpoints
from tinyvit_kd.training.learning_rate import build_scheduler
from tinyvit_kd.training.loop import fit
from tinyvit_kd.training.optim import build_optimizer, dist_token_decays_in
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState
from tinyvit_kd.training.timm_optimizers import require_optimizer


def train_student(config: TrainingConfig, data: TrainingData, job: Job) -> dict[str, float]:
    """Train, score and write a student.

    The run starts from the first of these that exists:

    1. a finished run of the same identity (see ``runs.identity``) in the run folder: its summary is returned, and
       nothing is trained;
    2. the newest checkpoint in the run folder that can be read; one of another identity is refused;
    3. ``student.init_from`` or ``student.pretrained``: another model's weights, at step 0;
    4. random weights, which depend on ``schedule.seed``, at step 0.

    Returns:
        the summary that is also written to ``summary.json``.

    Raises:
        ConfigError: lanes, batch size and processes do not fit together, the samples do not fill one step per epoch,
            the optimiser is unknown or does not take its settings, or a logger cannot be opened with these settings.
        CheckpointError: no checkpoint in the run folder can be read, or they belong to another recipe or other data.
        BusyError: another process is writing to the run folder.
        DiskSpaceError: the checkpoints would not fit on the disk.
        Preempted: a signal asked to stop; a checkpoint was written.
    """
    check_schedule(config.schedule, data.shards, job)
    require_optimizer(config.optim)
    with run_home(config, job) as home:
        return _train_student(config, data, job, home)


def _train_student(config: TrainingConfig, data: TrainingData, job: Job, home: RunHome) -> dict[str, float]:
    folder = home.folder
    with watched(config.runtime.data_timeout):
        weights = fetched_before(config, home, job) or read_first_weights(
            config.student, data.classes, job, data.num_classes
        )
        identity = data.identity | run_identity(config, data.num_classes, data.classes, weights)
        require_same_everywhere(identity, job)
        finished = job.broadcast(finished_summary(folder, identity) if job.is_main else None)
    if finished is not None:
        say(job, f"{config.output} has finished; to train again, set output to a new folder")
        return dict(finished)
    with (
        home.writing(job),
        student_log(config, job),
        attempting(folder / ATTEMPTS if job.is_main else None, job.world_size) as attempts,
        student_progress(config, job) as progress,
        student_metrics(config, job) as metrics,
    ):
        job.barrier()
        with saying("reading the newest checkpoint"), watched(config.runtime.data_timeout):
            saved = newest_checkpoint(home, identity, job)
            require_weights(config, weights, resumes=saved is not None)
            plan = step_plan(config, data, job, saved)
        with saying("building the student"):
            state, card = _build_state(config, data, weights, job, saved)
        compiler = compiler_of(config.runtime, job)
        run = _run_settings(config, data, identity, compiler, plan, state)
        requests, cached = request_figures(job), counted_by(data.shards)
        run = replace(
            run,
            progress=progress,
            metrics=metrics,
            on_checkpoint=home.on_checkpoint,
            counted=lambda: requests() | cached(),
        )
        scorer = None
        if config.eval is not None:
            scorer = build_scorer(job, config.eval, config.runtime, run.normalize, card, compiler.another())
        _require_space(config, state)
        if saved is not None:
            state.restore(saved, job)
            say(job, f"continuing from step {state.step} of {run.total_steps}")
            del saved  # it takes as much memory as the state
        if job.is_main:
            _write_start(config, weights, card)
        report_start(config, data.shards, card, run, state, weights.card)
        batch_maker = data.batch_maker(plan, steps_in_work(config.runtime))
        with stop_on_signals() as stop:
            home.heed(stop)
            parts = data.turns(plan, range(state.step, run.total_steps), stop, progress)
            with (
                closing(turns_with_shards(data.shards, plan, parts, config.runtime, job)) as turns,
                loading_in_turns(batch_maker, turns, config.runtime, job.device) as batches,
            ):
                results = fit(run, state, batches, data.objective, stop, scorer)
        say_cached(data.shards, job)
        if scorer is not None:
            results["class_names_compared"] = int(scorer.compares_names)
        summary = _write_results(config, data, scorer, run, state, card, results, attempts)
        progress.enter("finished", f"top-1 {summary['top1']:.2f} %" if "top1" in summary else None)
        return summary


def _build_state(
    config: TrainingConfig, data: TrainingData, weights: FirstWeights, job: Job, saved: dict[str, Any] | None
) -> tuple[TrainState, ModelCard]:
    spec = weights.architecture or student_spec(config.student, weights.card)
    model = build_student(
        config.student, spec, data.num_classes, data.image_size, config.schedule.seed, weights.initial
    )
    if (told := sizes_told(config.student, data.image_size)) is not None:
        say(job, told)
    if data.trains_both_heads:
        train_both_heads(model)
    if config.train.trainable == "head":
        freeze_body(model)
    move_to_device(model, job.device, config.runtime.channels_last)
    decays = saved is None or dist_token_decays_in(saved["optimizer"], model, config.optim)
    if not decays:
        say(job, "this run was begun when the distillation token did not decay, and goes on so")
    optimizer = build_optimizer(model, config.optim, config.schedule.global_batch_size, dist_token_decays=decays)
    decay = config.train.ema_decay
    ema = ModelEmaV3(model, decay=decay) if decay is not None else None
    card = ModelCard(
        architecture=without_fetching(spec).model_dump(mode="json"),
        num_classes=data.num_classes,
        image_size=config.student.final_size(data.image_size),
        mean=config.normalize.mean,
        std=config.normalize.std,
        class_name=data.classes.name if data.classes else None,
        class_ids=data.classes.ids if data.classes else None,
    )
    return TrainState(model, optimizer, ema), card if config.eval is None else card.scored_in(config.eval.views)


def _run_settings(
    config: TrainingConfig,
    data: TrainingData,
    identity: dict[str, str],
    compiler: Compiler,
    plan: StepPlan,
    state: TrainState,
) -> Run:
    schedule, job = config.schedule, compiler.job
    steps_per_epoch = plan.steps_per_epoch
    normalize = Normalizer(config.normalize.mean, config.normalize.std, job.device, config.runtime.channels_last)
    rates = build_scheduler(
        state.optimizer,
        config.optim,
        schedule.epochs * steps_per_epoch,
        round(schedule.warmup_epochs * steps_per_epoch),
        schedule.global_batch_size,
    )
    return Run(
        job=job,
        folder=run_folder(config),
        where=config.output,
        config=config.train,
        identity=identity,
        steps_per_epoch=steps_per_epoch,
        total_steps=schedule.epochs * steps_per_epoch,
        global_batch_size=schedule.global_batch_size,
        micro_batches=micro_batches(schedule, job),
        seed=schedule.seed,
        clip_grad=config.optim.clip_grad,
        normalize=normalize,
        precision=config.runtime.precision,
        set_rates=rates.step_update,
        name_samples=SampleNames(data.shards, plan),
        sizes=input_sizes(config.student, steps_per_epoch, normalize),
        stage_state={} if plan.stored is None else {"stored_views": plan.stored.counts},
        compiler=compiler,
        gradient_compression=config.runtime.gradient_compression,
        fsync=config.runtime.fsync,
        data_timeout=config.runtime.data_timeout,
    )


@dataclass(frozen=True)
class SampleNames:
    """Names the samples of this rank's batches, for messages."""

    shards: ShardSet
    plan: StepPlan

    def __call__(self, step: int, rows: Sequence[int]) -> list[str]:
        """The names of the samples in some rows of a step's batch; a row is one view."""
        _, numbers, indexes = self.plan.samples(step)
        reader = self.shards.reader()
        samples = [row // self.plan.views_per_sample for row in rows]
        return [sample_name(reader, int(numbers[sample]), int(indexes[sample])) for sample in samples]


def _require_space(config: TrainingConfig, state: TrainState) -> None:
    """Check that there is room for the checkpoints that are kept, and for one more."""
    needed = checkpoints_bytes(config, state.model)
    present = sum(path.stat().st_size for path in checkpoints(run_folder(config) / CHECKPOINTS))
    require_free_space(run_folder(config), max(0, needed - present))


def _write_start(config: TrainingConfig, weights: FirstWeights, card: ModelCard) -> None:
    folder = run_folder(config)
    remove_unfinished(folder)
    atomic_write(folder / RECIPE, dump_yaml(config).encode())
    note_fetched(config, weights, card)


def _write_results(
    config: TrainingConfig,
    data: TrainingData,
    scorer: Scorer | None,
    run: Run,
    state: TrainState,
    card: ModelCard,
    results: dict[str, float],
    attempts: Attempts,
) -> dict[str, float]:
    summary = results | {
        "step": state.step,
        "samples_seen": state.step * run.global_batch_size,
        "digests_checked": state.digests_checked,
        "skipped_steps": state.skipped_steps,
    }
    if run.job.is_main:
        fsync = config.runtime.fsync
        with saying("writing the model file"), watched(config.runtime.data_timeout), kept_whole():
            doing(f"writing the student to {run.folder}")
            card = replace(card, step=state.step)
            export_student(run.folder, state.scored.state_dict(), card, fsync)
            if state.ema is not None:
                save_model(run.folder / RAW_MODEL, state.model.state_dict(), card, fsync)
    scored_on = None if scorer is None else scorer.shards
    write_student_results(config, data, scored_on, run, state, card, summary, attempts)
    if run.job.is_main:
        # Last: a run folder with a summary is that of a finished run.
        write_summary(run.folder, summary, run.identity, config.runtime.fsync)
    run.job.barrier()
    say(run.job, f"wrote {run.where}/{MODEL}")
    return summary
