"""The one training loop: load, forward, loss, backward, clip, step, log, evaluate, checkpoint.

Stages two and three differ in what they hand to it (batches and an objective), not in the loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tinyvit_kd.config.training import TrainConfig
from tinyvit_kd.runtime.device import autocast
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import MetricsWriter, progress_bar, say
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.runtime.signals import Preempted, StopRequest
from tinyvit_kd.runtime.watchdog import doing, watched
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.checkpoint import CHECKPOINTS, save_checkpoint
from tinyvit_kd.training.meters import Meters, NameSamples, Step, non_finite_error
from tinyvit_kd.training.objectives import Objective, Output
from tinyvit_kd.training.state import TrainState
from tinyvit_kd.training.stop_vote import StopVote

Evaluate = Callable[[nn.Module], dict[str, float]]
SKIPS_IN_A_ROW = 100  # more are no outliers: the run has diverged


@dataclass(frozen=True)
class Run:
    """What stays the same while training."""

    job: Job
    folder: Path
    config: TrainConfig
    identity: dict[str, str]  # what a checkpoint must agree on to be continued
    steps_per_epoch: int
    total_steps: int
    global_batch_size: int
    micro_batches: int  # forward-backward passes a step, of each process
    seed: int
    clip_grad: float | None
    normalize: Callable[[torch.Tensor], torch.Tensor]  # uint8 views [B, 3, S, S] to the network's input
    precision: str  # as ``runtime.precision`` of a recipe
    set_rates: Callable[[int], None]  # sets the rates of a step
    name_samples: NameSamples
    kept: dict[str, Any] = field(default_factory=dict)  # what a stage finds again in each checkpoint
    compile: bool = False
    fsync: bool = False
    data_timeout: float = 600  # seconds without an answer of the disk

    def autocast(self) -> AbstractContextManager[None]:
        """The context of a forward pass."""
        return autocast(self.job.device, self.precision)


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
        batches: this rank's batches on its device, from step ``state.step`` on; each may be used until the next one
            is asked for.
        objective: the loss and what else is to be logged.
        stop: set by a signal; a checkpoint is then written and ``Preempted`` raised, in every process.
        evaluate: scores a network; called at ends of epochs, after a checkpoint.

    Returns:
        the last training and evaluation figures, and samples a second.

    Raises:
        NonFiniteLossError: the loss or a gradient became NaN or infinite; no checkpoint holds it.
        Preempted: after a checkpoint was written on request.
    """
    forward, vote = _parallel(run, state.model), StopVote(run.job, stop)
    meters = Meters(run.job.device, run.name_samples)
    results: dict[str, float] = {}
    first_step, trained_for, skips_in_a_row = state.step, 0.0, 0
    _train_mode(run, state.model)
    with (
        closing(MetricsWriter(run.job, run.folder)) as writer,
        progress_bar(run.job, run.total_steps, "step", initial=state.step, label="train") as bar,
    ):
        if evaluate is not None and state.step > 0 and _evaluation_due(run, state.step):
            results |= _evaluate(run, state, evaluate, writer, stop)  # it was stopped after the checkpoint
        begin = time.perf_counter()
        for batch, waited in _received(run, state, batches, stop, meters):
            taken = train_step(run, state, forward, batch, objective)
            meters.update(taken, state.step, waited)
            skips_in_a_row = 0 if taken.applied else _report_skip(run, state, taken, skips_in_a_row + 1)
            state.step += 1
            bar.update()
            finished = state.step == run.total_steps
            due = evaluate is not None and _evaluation_due(run, state.step)
            if state.step % run.config.log_every == 0 or finished:
                results |= _log(run, state, meters, writer)
            trained_for += time.perf_counter() - begin
            stopping = vote.collect()
            if stopping or finished or due or state.step % run.config.checkpoint_every == 0:
                meters.require_finite(run.job)
                checkpoint(run, state)
            if stopping and not finished:
                raise Preempted(f"stopped at step {state.step} with a checkpoint in {run.folder}; rerun to continue")
            if evaluate is not None and due:
                results |= _evaluate(run, state, evaluate, writer, stop)
            begin = time.perf_counter()
    state.average_running_stats(run.job)
    results["images_per_second"] = (state.step - first_step) * run.global_batch_size / max(trained_for, 1e-9)
    return results


def train_step(run: Run, state: TrainState, forward: nn.Module, batch: Batch, objective: Objective) -> Step:
    """One optimiser step; what it returns stays on the device."""
    run.set_rates(state.step)
    skips = run.config.on_non_finite == "skip"
    stats_before = state.running_stats.read() if skips else None
    parts: dict[str, torch.Tensor] = {}
    finite_rows = []
    chunks = list(batch.chunks(run.micro_batches))
    for number, chunk in enumerate(state.running_stats.each(chunks)):
        # Stochastic depth is the only user of torch's generator: its draws follow from the seed, the step and the
        # micro-batch's number in the global batch.
        torch.manual_seed(hash64(run.seed, 0x73746570, state.step, run.job.rank * len(chunks) + number) >> 1)
        with _gradient_sync(forward, number == len(chunks) - 1):
            with run.autocast():
                output: Output = forward(run.normalize(chunk.views))
            named = objective(output, chunk)
            (named["loss"] / len(chunks)).backward()  # type: ignore[no-untyped-call]
        heads = output if isinstance(output, tuple) else (output,)
        finite_rows.append(torch.stack([torch.isfinite(logits.detach()).all(dim=1) for logits in heads]).all(dim=0))
        for name, value in named.items():
            parts[name] = parts.get(name, 0) + value.detach() / len(chunks)
    # Without clipping the norm is still taken: an infinite gradient under a finite loss must not reach a checkpoint.
    limit = math.inf if run.clip_grad is None else run.clip_grad
    norm = parts["grad_norm"] = nn.utils.clip_grad_norm_(state.model.parameters(), limit)
    # Synchronises with the device, where steps may be skipped. The reduced gradient is the same in every process.
    applied = not skips or bool(torch.isfinite(norm))
    if applied:
        state.optimizer.step()
        if state.ema is not None:
            state.ema.update(state.model, step=state.step)
    elif stats_before is not None:
        state.running_stats.write(stats_before)
        state.skipped_steps += 1
    state.optimizer.zero_grad(set_to_none=True)
    state.checked_here += batch.checked
    return Step(parts, torch.cat(finite_rows), applied)


def checkpoint(run: Run, state: TrainState) -> None:
    """Write the state, from rank 0; every process must call."""
    content = {**state.gather(run.job), "identity": run.identity, "kept": run.kept}
    if run.job.is_main:
        folder = run.folder / CHECKPOINTS
        with watched(run.data_timeout):
            doing(f"writing a checkpoint to {folder}")
            save_checkpoint(folder, content, state.step, run.config.keep_checkpoints, run.fsync)
    run.job.barrier()


def _parallel(run: Run, model: nn.Module) -> nn.Module:
    if run.compile:
        model.compile()  # in place: the state dict keeps its names
    if run.job.world_size == 1:
        return model
    # Batch norm statistics stay each rank's own and are averaged before they are used.
    return DistributedDataParallel(model, broadcast_buffers=False)


def _gradient_sync(forward: nn.Module, last: bool) -> AbstractContextManager[None]:
    return nullcontext() if last or not isinstance(forward, DistributedDataParallel) else forward.no_sync()


def _train_mode(run: Run, model: nn.Module) -> None:
    model.train()
    for module in model.modules():
        # What lies around a head that is trained alone stays in training mode, so that two heads are asked for both.
        frozen = run.config.trainable == "head" and not any(each.requires_grad for each in module.parameters())
        if frozen or (run.config.freeze_bn_stats and isinstance(module, nn.modules.batchnorm._BatchNorm)):
            module.eval()


def _received(
    run: Run, state: TrainState, batches: Iterable[Batch], stop: StopRequest, meters: Meters
) -> Iterator[tuple[Batch, float]]:
    """Batches, and the seconds that each was waited for."""
    iterator, alone = iter(batches), run.job.world_size == 1
    while True:
        begin = time.perf_counter()
        try:
            with stop.leaving_at_once() if alone else nullcontext():
                batch = next(iterator)
        except StopIteration:
            return
        except (Preempted, Exception):
            # Between two steps all is consistent. Several processes would have to agree on the step first.
            if alone:
                meters.require_finite(run.job)
                checkpoint(run, state)
            raise
        yield batch, time.perf_counter() - begin


def _log(run: Run, state: TrainState, meters: Meters, writer: MetricsWriter) -> dict[str, float]:
    values = meters.read(run.job)  # synchronises with the device and between processes
    values["lr"] = max(group["lr"] for group in state.optimizer.param_groups)
    values["skipped_steps"] = state.skipped_steps
    writer.write("train", state.step, values)
    rate = run.global_batch_size / values["step_seconds"]
    holes = f"  holes {values['holes']:.2%}" if values.get("holes") else ""
    say(
        run.job,
        f"step {state.step}/{run.total_steps}  epoch {state.step / run.steps_per_epoch:.2f}  "
        f"loss {values.get('loss', math.nan):.4f}  lr {values['lr']:.2e}  {rate:,.0f} images/s  "
        f"waiting for data {values['data_wait']:.0%}{holes}",
    )
    return values


def _evaluation_due(run: Run, step: int) -> bool:
    if step == run.total_steps:
        return True
    epoch, inside = divmod(step, run.steps_per_epoch)
    return inside == 0 and epoch % run.config.evaluate_every == 0


def _evaluate(
    run: Run, state: TrainState, evaluate: Evaluate, writer: MetricsWriter, stop: StopRequest
) -> dict[str, float]:
    state.average_running_stats(run.job)
    # It can take longer than the grace that a scheduler gives, and the checkpoint has been written.
    with stop.leaving_at_once():
        scores = evaluate(state.scored)
    _train_mode(run, state.model)
    writer.write("eval", state.step, scores)
    say(
        run.job,
        f"eval at step {state.step}: " + "  ".join(f"{name} {value:.2f}" for name, value in scores.items()),
    )
    return scores


def _report_skip(run: Run, state: TrainState, taken: Step, in_a_row: int) -> int:
    """Name a step that was left out; ``in_a_row`` as it came.

    Raises:
        NonFiniteLossError: too many in a row.
    """
    error = non_finite_error(run.job, run.name_samples, state.step, taken.finite_rows)
    if in_a_row > SKIPS_IN_A_ROW:
        raise error
    say(run.job, f"left out step {state.step}, the {state.skipped_steps}th: {error.found}")
    return in_a_row
