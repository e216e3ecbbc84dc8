"""The one training loop: load, forward, loss, backward, clip, step, log, evaluate, checkpoint.

Stages two and three differ in what they hand to it (batches and an objective), not in the loop.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from timm.utils import ModelEmaV3, distribute_bn
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tinyvit_kd.config.training import TrainConfig
from tinyvit_kd.runtime.batch import Batch
from tinyvit_kd.runtime.device import Normalizer
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.runtime.log import MetricsWriter, progress_bar, say
from tinyvit_kd.runtime.seeding import hash64
from tinyvit_kd.runtime.signals import Preempted, StopRequest
from tinyvit_kd.training.checkpoint import CHECKPOINTS, save_checkpoint
from tinyvit_kd.training.meters import Meters

# An objective maps (logits [B, C], batch) to named scalars, of which "loss" is differentiated.
Objective = Callable[[torch.Tensor, Batch], dict[str, torch.Tensor]]


@dataclass
class State:
    """What changes while training: exactly this is checkpointed."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: ModelEmaV3 | None
    step: int = 0
    digests_checked: int = 0  # by all processes, up to the last ``collect``
    checked_here: int = 0  # by this process since then; not checkpointed

    def collect(self, job: Job) -> None:
        """Add up what the processes have counted; every process must call."""
        self.digests_checked += int(job.sum(torch.tensor(self.checked_here)).item())
        self.checked_here = 0

    def state_dict(self) -> dict[str, Any]:
        """Tensors, numbers and strings only, so that it loads without executing code."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema is not None else None,
            "step": self.step,
            "digests_checked": self.digests_checked,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.ema is not None:
            self.ema.module.load_state_dict(saved["ema"])
        self.step, self.digests_checked = saved["step"], saved["digests_checked"]

    @property
    def scored(self) -> nn.Module:
        """The weights that are evaluated and exported: the average where one is kept."""
        return self.ema.module if self.ema is not None else self.model


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
    accumulate: int
    seed: int
    clip_grad: float | None
    normalize: Normalizer
    autocast: Callable[[], AbstractContextManager[None]]
    set_rates: Callable[[int], None]  # sets the rates of a step
    compile: bool = False
    fsync: bool = False


def fit(
    run: Run,
    state: State,
    batches: Iterable[Batch],
    objective: Objective,
    stop: StopRequest,
    evaluate: Callable[[nn.Module], dict[str, float]] | None = None,
) -> dict[str, float]:
    """Train from ``state.step`` to ``run.total_steps``.

    Args:
        batches: this rank's batches, from step ``state.step`` on.
        objective: the loss and what else is to be logged.
        stop: set by a signal; a checkpoint is then written and ``Preempted`` raised, in every process.
        evaluate: scores a network; called at ends of epochs.

    Returns:
        the last training and evaluation figures, and samples a second.

    Raises:
        NonFiniteLossError: the loss became NaN or infinite; no checkpoint holds it.
        Preempted: after a checkpoint was written on request.
    """
    forward, vote, meters = _parallel(run, state.model), _StopVote(run.job, stop), Meters(run.job.device)
    results: dict[str, float] = {}
    first_step, trained_for = state.step, 0.0
    _train_mode(run, state.model)
    with (
        closing(MetricsWriter(run.job, run.folder)) as writer,
        progress_bar(run.job, run.total_steps, "step", initial=state.step, label="train") as bar,
    ):
        begin = time.perf_counter()
        for batch, waited in _timed(batches):
            meters.update(train_step(run, state, forward, batch, objective), state.step, waited)
            state.step += 1
            bar.update()
            finished = state.step == run.total_steps
            if state.step % run.config.log_every == 0 or finished:
                results |= _log(run, state, meters, writer)
            trained_for += time.perf_counter() - begin
            stopping = vote.collect()
            if stopping or finished or state.step % run.config.checkpoint_every == 0:
                meters.require_finite(run.job)
                checkpoint(run, state)
            if stopping and not finished:
                raise Preempted(f"stopped at step {state.step} with a checkpoint in {run.folder}; rerun to continue")
            # After the checkpoint: an evaluation can take longer than the grace that a scheduler gives.
            if evaluate is not None and _evaluation_due(run, state.step):
                results |= _evaluate(run, state, evaluate, writer)
            begin = time.perf_counter()
        if evaluate is not None and first_step == run.total_steps:
            results |= _evaluate(run, state, evaluate, writer)  # stopped between the last checkpoint and the summary
    results["images_per_second"] = (state.step - first_step) * run.global_batch_size / max(trained_for, 1e-9)
    return results


def train_step(
    run: Run, state: State, forward: nn.Module, batch: Batch, objective: Objective
) -> dict[str, torch.Tensor]:
    """One optimiser step; returns named scalars that stay on the device."""
    run.set_rates(state.step)
    # Stochastic depth is the only user of torch's generator: a step's draws follow from (seed, step, rank).
    torch.manual_seed(hash64(run.seed, 0x73746570, state.step, run.job.rank) >> 1)
    parts: dict[str, torch.Tensor] = {}
    chunks = list(batch.to(run.job.device).chunks(run.accumulate))
    for number, chunk in enumerate(chunks, start=1):
        with _gradient_sync(forward, number == len(chunks)):
            with run.autocast():
                student_logits = forward(run.normalize(chunk.views))
            named = objective(student_logits, chunk)
            (named["loss"] / run.accumulate).backward()  # type: ignore[no-untyped-call]
        for name, value in named.items():
            parts[name] = parts.get(name, 0) + value.detach() / run.accumulate
    # Without clipping the norm is still taken: an infinite gradient under a finite loss must not reach a checkpoint.
    limit = math.inf if run.clip_grad is None else run.clip_grad
    parts["grad_norm"] = nn.utils.clip_grad_norm_(state.model.parameters(), limit)
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        state.ema.update(state.model, step=state.step)
    state.checked_here += batch.checked
    return parts


def checkpoint(run: Run, state: State) -> None:
    """Write the state, from rank 0; every process must call."""
    _average_batch_norm(run, state)
    state.collect(run.job)
    if run.job.is_main:
        content = {**state.state_dict(), "identity": run.identity}
        save_checkpoint(run.folder / CHECKPOINTS, content, state.step, run.config.keep_checkpoints, run.fsync)
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
    if run.config.freeze_bn_stats:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _average_batch_norm(run: Run, state: State) -> None:
    if run.job.world_size > 1:
        distribute_bn(state.model, run.job.world_size, reduce=True)
        if state.ema is not None:
            distribute_bn(state.ema.module, run.job.world_size, reduce=True)


def _timed(batches: Iterable[Batch]) -> Iterator[tuple[Batch, float]]:
    iterator, begin = iter(batches), time.perf_counter()
    for batch in iterator:
        yield batch, time.perf_counter() - begin
        begin = time.perf_counter()


def _log(run: Run, state: State, meters: Meters, writer: MetricsWriter) -> dict[str, float]:
    values = meters.read(run.job)  # synchronises with the device and between processes
    values["lr"] = max(group["lr"] for group in state.optimizer.param_groups)
    writer.write("train", state.step, values)
    rate = run.global_batch_size / values["step_seconds"]
    say(
        run.job,
        f"step {state.step}/{run.total_steps}  epoch {state.step / run.steps_per_epoch:.2f}  "
        f"loss {values['loss']:.4f}  lr {values['lr']:.2e}  {rate:,.0f} images/s  "
        f"waiting for data {values['data_wait']:.0%}",
    )
    return values


def _evaluation_due(run: Run, step: int) -> bool:
    if step == run.total_steps:
        return True
    epoch, inside = divmod(step, run.steps_per_epoch)
    return inside == 0 and epoch % run.config.evaluate_every == 0


def _evaluate(
    run: Run, state: State, evaluate: Callable[[nn.Module], dict[str, float]], writer: MetricsWriter
) -> dict[str, float]:
    _average_batch_norm(run, state)
    scores = evaluate(state.scored)
    _train_mode(run, state.model)
    writer.write("eval", state.step, scores)
    say(
        run.job,
        f"eval at step {state.step}: " + "  ".join(f"{name} {value:.2f}" for name, value in scores.items()),
    )
    return scores


class _StopVote:
    """Every process learns of a stop request at the same step, without waiting for the answer.

    The vote that is cast at one step is collected at the next.
    """

    def __init__(self, job: Job, stop: StopRequest) -> None:
        self.job, self.stop = job, stop
        self.pending: tuple[dist.Work, torch.Tensor] | None = None

    def collect(self) -> bool:
        """Whether any process had been asked to stop when it last voted; votes again."""
        if self.job.control is None:
            return bool(self.stop)
        decided = False
        if self.pending is not None:
            work, flag = self.pending
            work.wait()
            decided = bool(flag.item())
        flag = torch.tensor(int(bool(self.stop)))
        work = dist.all_reduce(flag, group=self.job.control, async_op=True)
        assert work is not None
        self.pending = (work, flag)
        return decided
