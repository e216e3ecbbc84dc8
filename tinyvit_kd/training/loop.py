"""The one training loop: load, forward, loss, backward, clip, step, log, evaluate, checkpoint.

Stages two and three pass different batches and objectives to the same loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext

import torch
from torch import nn

from tinyvit_kd.runtime.device import seed_torch
from tinyvit_kd.runtime.device_report import say_device
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.log import say
from tinyvit_kd.runtime.peer_watch import kept_whole, leaving_together
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.runtime.signals import AgreedStop, Preempted, StopRequest
from tinyvit_kd.runtime.watchdog import doing, watched
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.checkpoint import save_checkpoint
from tinyvit_kd.training.checkpoint_files import CHECKPOINTS
from tinyvit_kd.training.data_parallel import data_parallel, gradient_sync
from tinyvit_kd.training.evaluation_metrics import as_raw
from tinyvit_kd.training.gradient_norm import gradient_norm
from tinyvit_kd.training.meters import Meters, StepResult, non_finite_error
from tinyvit_kd.training.objectives import Objective, Output
from tinyvit_kd.training.pauses import checkpoint_due, evaluation_due
from tinyvit_kd.training.progress import Reports, reporting
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState
from tinyvit_kd.training.stop_vote import StopVote
from tinyvit_kd.training.student_forward import Measured, measure, student_forward, warm_up

Evaluate = Callable[[nn.Module, StopRequest], dict[str, float]]
MAX_SKIPS_IN_A_ROW = 100  # with more, the run has diverged


def fit(
    run: Run,
    state: TrainState,
    batches: Iterable[Batch],
    objective: Objective,
    stop: StopRequest,
    evaluate: Evaluate | None = None,
) -> dict[str, float]:
    """Train from ``state.step`` to ``run.total_steps``.

    Args:
        batches: this rank's batches on its device, from step ``state.step`` on; each is valid until the next one is
            requested.
        objective: the loss, and other scalars to log.
        stop: set by a signal; every process then writes a checkpoint and raises ``Preempted``.
        evaluate: scores a network, and raises ``AgreedStop`` in every process if a stop is requested meanwhile; called
            at ends of epochs, after a checkpoint.

    Returns:
        the last training and evaluation results, and views per second as ``images_per_second``.

    Raises:
        NonFiniteLossError: the loss or a gradient became NaN or infinite; no checkpoint was written after that.
        Preempted: a stop was requested, and a checkpoint was written.
    """
    forward = data_parallel(student_forward(run, state), run.job, run.gradient_compression, run.static_graph)
    vote = StopVote(run.job, stop)
    meters = Meters(run.job.device, run.name_samples)
    results: dict[str, float] = {}
    first_step = state.step
    seconds = 0.0
    skips_in_a_row = 0
    ready_for: int | None = None  # size of the images that the step was compiled for
    train_mode(run, state.model)
    with reporting(run, state.step, evaluate is not None) as reports:
        if evaluate is not None and state.step > 0 and evaluation_due(run, state.step):
            results |= _evaluate(run, state, evaluate, reports, stop)  # the run was stopped between the two
        begin = meters.begin = time.perf_counter()
        for batch, waited in _timed(run, state, batches, stop, meters):
            size = run.sizes.at(state.step)
            if size != ready_for:
                begin += _get_ready(run, state, forward, batch, objective, meters)
                if ready_for is None:
                    say_device(run.compiler, state.model, run.resolved_precision)
                else:
                    say(run.job, f"images have {size} pixels from step {state.step} on")
                ready_for = size
            result = train_step(run, state, forward, batch, objective)
            meters.update(result, state.step, waited)
            skips_in_a_row = 0 if result.applied else skips_in_a_row + 1
            if skips_in_a_row:
                _report_skip(run, state, result, skips_in_a_row)
            state.step += 1
            finished = state.step == run.total_steps
            due = evaluate is not None and evaluation_due(run, state.step)
            if state.step % run.config.log_every == 0 or finished:
                results |= reports.log(state, meters)
            end = time.perf_counter()
            seconds += end - begin
            reports.made_step(state.step, end - begin)
            stopping = vote.collect()
            if stopping or due or checkpoint_due(run, state.step):
                with reports.writing_checkpoint():
                    meters.require_finite(run.job)
                    checkpoint(run, state)
            if stopping and not finished:
                raise _stopped(run, state)
            if evaluate is not None and due:
                results |= _evaluate(run, state, evaluate, reports, stop)
            begin = time.perf_counter()
            meters.leave_out(begin - end)
    state.average_running_stats(run.job)
    results["images_per_second"] = (state.step - first_step) * run.global_batch_size / max(seconds, 1e-9)
    return results


def train_step(run: Run, state: TrainState, forward: nn.Module, batch: Batch, objective: Objective) -> StepResult:
    """One optimiser step; its result stays on the device.

    Args:
        forward: views to logits: ``student_forward``, over several processes inside ``data_parallel``.
    """
    run.set_rates(state.step)
    may_skip = run.config.on_non_finite == "skip"
    stats_before = state.running_stats.read() if may_skip else None
    parts: list[Measured] = []
    chunks = list(batch.chunks(run.micro_batches))
    for number, chunk in enumerate(state.running_stats.over_micro_batches(chunks)):
        # Only stochastic depth uses torch's generator. Its draws follow from the seed, the step and the number of the
        # micro-batch in the global batch.
        seed = hash64(run.seed, 0x73746570, state.step, run.job.rank * len(chunks) + number) >> 1
        seed_torch(seed, run.job.device)
        run.compiler.begin_step()
        images = run.sizes(chunk.views, state.step)
        with gradient_sync(forward, number == len(chunks) - 1):
            with run.autocast():
                output: Output = forward(images)
            part = run.compiler(measure, objective, output, chunk)
            _share_of(part.scalars["loss"], len(chunks)).backward()  # type: ignore[no-untyped-call]
        parts.append(part.kept_by(run.compiler))
    norm = gradient_norm(state.trained, run.clip_grad)
    # Synchronises with the device if steps may be skipped. All processes agree, as they have the same reduced gradient.
    applied = not may_skip or bool(torch.isfinite(norm))
    if applied:
        state.optimizer.step()
        state.update_average()
    elif stats_before is not None:
        state.running_stats.write(stats_before)
        state.skipped_steps += 1
    # Graphs write gradients to memory that they use again; those of a step are added up in memory of its own.
    state.optimizer.zero_grad(set_to_none=not run.compiler.cuda_graphs)
    state.checked_here += batch.checked
    return StepResult(_means(parts) | {"grad_norm": norm}, _joined(parts), applied)


def checkpoint(run: Run, state: TrainState) -> None:
    """Write the state to a checkpoint, from rank 0; every process must call."""
    content = {**state.gather(run.job), "identity": run.identity, "kept": run.stage_state}
    with run.job.main_first():
        if run.job.is_main:
            folder = run.folder / CHECKPOINTS
            with saying("writing a checkpoint"), watched(run.data_timeout), kept_whole():
                doing(f"writing a checkpoint to {folder}")
                run.on_checkpoint(save_checkpoint(folder, content, state.step, run.config.keep_checkpoints, run.fsync))


def _get_ready(
    run: Run, state: TrainState, forward: nn.Module, batch: Batch, objective: Objective, meters: Meters
) -> float:
    """Compile the step for images of its size; returns the seconds that no rate should include."""
    seconds = warm_up(run, state, forward, batch, objective)
    meters.leave_out(seconds)
    if run.compiler.cuda_graphs:
        state.hold_gradients()
    return seconds


def _share_of(value: torch.Tensor, count: int) -> torch.Tensor:
    return value if count == 1 else value / count


def _means(parts: Sequence[Measured]) -> dict[str, torch.Tensor]:
    """Means of micro-batches' scalars."""
    first, *others = ({name: _share_of(each, len(parts)) for name, each in part.scalars.items()} for part in parts)
    for other in others:
        first = {name: value + other[name] for name, value in first.items()}
    return first


def _joined(parts: Sequence[Measured]) -> torch.Tensor:
    """Which rows of a step's batch are finite."""
    return parts[0].finite_rows if len(parts) == 1 else torch.cat([part.finite_rows for part in parts])


def train_mode(run: Run, model: nn.Module) -> None:
    """Set a network to training mode, but for what a recipe freezes."""
    model.train()
    for module in model.modules():
        # Modules that contain a trained head stay in training mode, so that distilled networks return both outputs.
        frozen = run.config.trainable == "head" and not any(each.requires_grad for each in module.parameters())
        if frozen or (run.config.freeze_bn_stats and isinstance(module, nn.modules.batchnorm._BatchNorm)):
            module.eval()


def _timed(
    run: Run, state: TrainState, batches: Iterable[Batch], stop: StopRequest, meters: Meters
) -> Iterator[tuple[Batch, float]]:
    """Batches, each with the seconds spent waiting for it.

    If that fails, a process that is alone saves a checkpoint, as do several that stop at the same step.
    """
    iterator = iter(batches)
    alone = run.job.world_size == 1
    while True:
        begin = time.perf_counter()
        try:
            with stop.leaving_at_once() if alone else nullcontext():
                batch = next(iterator)
        except StopIteration:
            return
        except (Preempted, Exception) as error:
            # Between two steps the state is consistent. Several processes have to agree on the step first.
            if alone or isinstance(error, AgreedStop):
                meters.require_finite(run.job)
                checkpoint(run, state)
                if isinstance(error, Preempted) and not isinstance(error, AgreedStop):
                    raise _stopped(run, state) from None
            raise
        yield batch, time.perf_counter() - begin


def _evaluate(run: Run, state: TrainState, evaluate: Evaluate, reports: Reports, stop: StopRequest) -> dict[str, float]:
    state.average_running_stats(run.job)
    try:
        with reports.evaluating():
            scores = evaluate(state.scored, stop)
            if state.ema is not None:
                scores |= as_raw(evaluate(state.model, stop))
    except AgreedStop:
        # An evaluation can outlast a scheduler's grace period. Leaving loses nothing: the checkpoint has been written.
        raise _stopped(run, state) from None
    train_mode(run, state.model)
    reports.log_scores(state.step, scores)
    return scores


def _stopped(run: Run, state: TrainState) -> AgreedStop:
    """What all processes raise once they have agreed to stop, and a checkpoint of this step has been written."""
    leaving_together()
    return AgreedStop(f"stopped at step {state.step} with a checkpoint in {run.where or run.folder}; rerun to continue")


def _report_skip(run: Run, state: TrainState, result: StepResult, in_a_row: int) -> None:
    """Print that a step was skipped, and why.

    Raises:
        NonFiniteLossError: ``in_a_row``, the number of steps skipped in a row, is too large.
    """
    error = non_finite_error(run.job, run.name_samples, state.step, result.finite_rows)
    if in_a_row > MAX_SKIPS_IN_A_ROW:
        raise error
    say(run.job, f"skipped step {state.step} ({state.skipped_steps} skipped so far): {error.found}")
