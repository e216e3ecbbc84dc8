"""How many views a network takes: a teacher's forward pass, a student's training step. Weights are random."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from tinyvit_kd.config.recipes import DumpConfig, PretrainConfig, TrainingConfig
from tinyvit_kd.models.input_size import resize_views
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.models.teacher import Teacher, topk_probs
from tinyvit_kd.planning.context import Task
from tinyvit_kd.planning.measuring.stopwatch import Rate, fitting_batch, rate_of
from tinyvit_kd.planning.models import PlannedStudent, PlannedTeacher
from tinyvit_kd.runs.batch_sizes import micro_batches
from tinyvit_kd.runtime.compiling import compiler_of
from tinyvit_kd.runtime.device import move_to_device
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.input_sizes import InputSizes
from tinyvit_kd.training.loop import train_step
from tinyvit_kd.training.objectives import DistillObjective, Objective, PlainObjective
from tinyvit_kd.training.optim import build_optimizer
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState
from tinyvit_kd.training.student_forward import student_forward
from tinyvit_kd.training.targets import Teachers


def teacher_rate(config: DumpConfig, planned: PlannedTeacher, job: Job) -> Rate:
    """Views per second of a teacher's forward pass, with the top K of its answers."""
    runtime, device = config.runtime, job.device
    compiler = compiler_of(runtime, job)
    teacher = Teacher(planned.build(), planned.facts, device, runtime.precision, runtime.channels_last, compiler)
    return opened_teacher_rate(config, teacher)


def opened_teacher_rate(config: DumpConfig, teacher: Teacher) -> Rate:
    """As ``teacher_rate``, of a teacher that is there already."""
    size, device = config.views.size, teacher.device

    def work_on(batch: int) -> Callable[[], object]:
        return partial(_answer, teacher, _views(batch, size, device), config.store.topk)

    batch = fitting_batch(work_on, config.batch_size, device)
    teacher.warm_up(batch, size)
    return rate_of(work_on(batch), batch, device)


def _answer(teacher: Teacher, views: torch.Tensor, topk: int) -> object:
    teacher.compiler.begin_step()
    with teacher.compiler.without_gradients():
        return topk_probs(teacher(views), topk)


def student_rate(config: TrainingConfig, planned: PlannedStudent, task: Task, job: Job, processes: int) -> Rate:
    """Views per second of a training step: forward, loss, backward, clipping and the optimiser.

    Args:
        processes: of the run, by which its batch is divided.
    """
    whole = Job(0, processes, job.device)
    largest = config.schedule.global_batch_size // processes // micro_batches(config.schedule, whole)
    run, state = _run(config, planned, job)
    forward = student_forward(run, state)
    objective = _objective(config, task)

    def work_on(batch: int) -> Callable[[], object]:
        return partial(train_step, run, state, forward, _batch(batch, task, job.device), objective)

    state.model.train()
    batch = fitting_batch(work_on, largest, job.device)
    work = work_on(batch)
    work()
    return rate_of(work, batch, job.device)


def _run(config: TrainingConfig, planned: PlannedStudent, job: Job) -> tuple[Run, TrainState]:
    runtime = config.runtime
    model = move_to_device(planned.build(), job.device, runtime.channels_last)
    normalize = Normalizer(config.normalize.mean, config.normalize.std, job.device, runtime.channels_last)
    largest = InputSizes(
        {0: planned.card.image_size}, lambda views, side: resize_views(views, side, normalize.memory_format)
    )
    state = TrainState(model, build_optimizer(model, config.optim, config.schedule.global_batch_size), None)
    run = Run(
        job=job,
        folder=Path("."),  # nothing is written
        config=config.train,
        identity={},
        steps_per_epoch=1,
        total_steps=1,
        global_batch_size=config.schedule.global_batch_size,
        micro_batches=1,
        seed=0,
        clip_grad=config.optim.clip_grad,
        normalize=normalize,
        sizes=largest,
        precision=runtime.precision,
        set_rates=lambda _: None,
        name_samples=lambda _, __: [],
        compiler=compiler_of(runtime, job),
    )
    return run, state


def _objective(config: TrainingConfig, task: Task) -> Objective:
    if isinstance(config, PretrainConfig):
        weights = [config.store.weight, *(other.weight for other in config.store.others)]
        return DistillObjective(config.loss, Teachers([each.topk for each in task.stores], weights))
    return PlainObjective(config.loss)  # type: ignore[attr-defined]


def _views(batch: int, size: int, device: torch.device) -> torch.Tensor:
    return torch.randint(256, (batch, 3, size, size), dtype=torch.uint8).to(device)


def _batch(batch: int, task: Task, device: torch.device) -> Batch:
    """Views and targets at random, as a run gets them."""
    tensors = {"views": _views(batch, task.spec.size, device), "weights": torch.ones(batch)}
    if task.labels:
        tensors["labels"] = torch.randint(task.num_classes, (batch,))
    if task.stores:
        answers = [topk_probs(3 * torch.randn(batch, task.num_classes), each.topk) for each in task.stores]
        indices, probs, residual = zip(*answers, strict=True)
        tensors |= {"indices": torch.cat(indices, dim=1), "probs": torch.cat(probs, dim=1)}
        tensors["residual"] = torch.stack(residual, dim=1) if len(answers) > 1 else residual[0]
    return Batch.of({name: tensor.to(device) for name, tensor in tensors.items()})
