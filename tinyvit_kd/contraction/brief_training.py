"""Some optimiser steps of a candidate. They are those of a run (``training.loop``), without what a run keeps of itself.

A candidate writes no checkpoint, logs nothing and has no average of weights: what is cut short is made anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import nn

from tinyvit_kd.config.recipes import ContractConfig
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.runs.batch_sizes import micro_batches
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.heartbeat import saying
from tinyvit_kd.runtime.signals import raise_if_stopped
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.learning_rate import build_scheduler
from tinyvit_kd.training.loop import train_mode, train_step
from tinyvit_kd.training.meters import Meters, NameSamples, non_finite_error
from tinyvit_kd.training.objectives import Objective
from tinyvit_kd.training.optim import build_optimizer
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState
from tinyvit_kd.training.student_forward import student_forward, warm_up

CHECKED_EVERY = 50  # steps between looks whether all losses were finite, for which the device is waited for


def begin_part(
    config: ContractConfig, network: nn.Module, steps: range, seed: int, compiler: Compiler, names: NameSamples
) -> tuple[Run, TrainState]:
    """A new optimiser for steps of a candidate, and what stays the same during them.

    The learning rate is warmed up over the fraction ``proxy.warmup`` of these steps, then follows a cosine to
    ``optim.min_lr`` at their end.

    Args:
        network: on its device.
        seed: of stochastic depth.
        names: names samples, for messages.
    """
    optim = config.optim
    if config.proxy.base_lr is not None:
        optim = optim.model_copy(update={"base_lr": config.proxy.base_lr})
    batch = config.schedule.global_batch_size
    state = TrainState(network, build_optimizer(network, optim, batch), None, step=steps.start)
    warmup = min(round(config.proxy.warmup * len(steps)), len(steps) - 1)
    run = Run(
        job=compiler.job,
        folder=Path(),
        config=config.train,
        identity={},
        steps_per_epoch=len(steps),
        total_steps=steps.stop,
        global_batch_size=batch,
        micro_batches=micro_batches(config.schedule, compiler.job),
        seed=seed,
        clip_grad=optim.clip_grad,
        normalize=normalizer(config, compiler.job.device),
        precision=config.runtime.precision,
        set_rates=_from(steps.start, build_scheduler(state.optimizer, optim, len(steps), warmup, batch).step_update),
        name_samples=names,
        compiler=compiler,
        data_timeout=config.runtime.data_timeout,
    )
    return run, state


def normalizer(config: ContractConfig, device: torch.device) -> Normalizer:
    """From views to a candidate's input."""
    return Normalizer(config.normalize.mean, config.normalize.std, device, config.runtime.channels_last)


def _from(first: int, set_rates: Callable[[int], None]) -> Callable[[int], None]:
    return lambda step: set_rates(step - first)


def train_part(run: Run, state: TrainState, batches: Iterable[Batch], objective: Objective) -> None:
    """Train from ``state.step`` to ``run.total_steps``.

    Args:
        batches: of these steps, on the device.

    Raises:
        NonFiniteLossError: the loss or a gradient became NaN or infinite or, where such steps are skipped, in all.
        Preempted: a signal asked to stop.
    """
    forward = student_forward(run, state)
    meters = Meters(run.job.device, run.name_samples)
    steps = run.total_steps - state.step
    train_mode(run, state.model)
    with saying("training a candidate", steps, "step") as beat:
        for number, batch in enumerate(batches):
            raise_if_stopped()
            if not number:
                warm_up(run, state, forward, batch, objective)
                if run.compiler.cuda_graphs:
                    state.hold_gradients()
            result = train_step(run, state, forward, batch, objective)
            meters.update(result, state.step, 0.0)
            if state.skipped_steps == steps:
                raise non_finite_error(run.job, run.name_samples, state.step, result.finite_rows)
            state.step += 1
            beat.advance()
            if state.step % CHECKED_EVERY == 0:
                meters.require_finite(run.job)
    meters.require_finite(run.job)
