"""A training step, a dump batch and an evaluation batch launch work on the GPU and never wait for it.

Without a GPU torch's profiler tells of what would wait there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from timm.utils import ModelEmaV3

from benchmarks.feeding import SyntheticBatches
from benchmarks.networks import random_network, student_run, student_state
from tests.conftest import NEEDS_GPU
from tests.operators import waits
from tinyvit_kd.config.training import DistillLossConfig, RuntimeConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.models.answer import answer, ready_to_answer
from tinyvit_kd.models.teacher import Teacher, TeacherFacts, topk_probs
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.distributed import Job, solo_job
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.evaluation_metrics import METRICS, ScoredBatch
from tinyvit_kd.training.loop import train_step
from tinyvit_kd.training.meters import Meters, finite_rows
from tinyvit_kd.training.objectives import DistillObjective
from tinyvit_kd.training.state import TrainState
from tinyvit_kd.training.student_forward import student_forward, warm_up

OBJECTIVE = DistillObjective(DistillLossConfig())
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def a_run(folder: Path, job: Job, compiled: bool = False) -> tuple[Callable[[Batch], None], Callable[[Batch], None]]:
    """What gets a run of a small TinyViT ready, and what makes a step with its meters."""
    state = student_state("tiny_vit_5m_224", 1000, 64, 8, job.device)
    state = TrainState(state.model, state.optimizer, ModelEmaV3(state.model, decay=0.9))
    run = replace(student_run(state, 8, job, folder, precision="bfloat16", compiled=compiled), micro_batches=2)
    meters, forward = Meters(job.device, run.name_samples), student_forward(run, state)

    def get_ready(batch: Batch) -> None:
        warm_up(run, state, forward, batch, OBJECTIVE)
        step(batch)  # the first step creates the optimiser's state

    def step(batch: Batch) -> None:
        meters.update(train_step(run, state, forward, batch, OBJECTIVE), state.step, 0.0)
        state.step += 1

    return get_ready, step


def a_teacher(device: torch.device, precision: str) -> Teacher:
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    facts = TeacherFacts(name="vit", num_classes=1000, image_size=32, mean=mean, std=std)
    return Teacher(random_network("deit_tiny_patch16_224", 1000, 32), facts, device, precision)


def some_views(device: torch.device) -> torch.Tensor:
    return torch.randint(256, (4, 3, 32, 32), dtype=torch.uint8).to(device)


def a_scored_batch(device: torch.device, compiler: Compiler) -> Callable[[], None]:
    """What scores one batch, as ``runs.scoring`` does."""
    teacher = a_teacher(device, "auto")
    ready_to_answer(teacher.network, device)
    metrics = [metric(1000, (), device) for metric in METRICS]
    views, labels, weights = some_views(device), torch.arange(4, device=device), torch.ones(4, device=device)

    def score() -> None:
        with compiler.without_gradients():
            scores = compiler(answer, teacher.network, teacher.normalize, views)
            finite_rows(scores)
            for metric in metrics:
                metric.update(ScoredBatch(scores, {}, labels, weights))

    return score


def test_on_the_cpu_nothing_in_a_step_would_wait(tmp_path: Path) -> None:
    get_ready, step = a_run(tmp_path, solo_job())
    with loading(SyntheticBatches(8, 64, 10, 1000), range(1), RuntimeConfig(workers=0), CPU) as batches:
        batch = next(batches)
        get_ready(batch)
        # The CPU's AdamW reads its counters of steps, which on a GPU lie there and are read there.
        assert waits(lambda: step(batch), besides="aten::_fused_adamw_") == []


def test_on_the_cpu_nothing_in_a_dump_or_an_evaluation_would_wait() -> None:
    teacher, views = a_teacher(CPU, "auto"), some_views(CPU)
    with torch.inference_mode():
        assert waits(lambda: topk_probs(teacher(views), 10)) == []
    assert waits(a_scored_batch(CPU, Compiler(solo_job()))) == []
    assert waits(lambda: torch.ones(1).item()) == ["aten::_local_scalar_dense", "aten::item"]  # it would be seen


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_logits_are_float32_on_their_device_before_softmax_and_top_k(precision: str) -> None:
    teacher, views = a_teacher(CPU, precision), some_views(CPU)
    with torch.inference_mode():
        logits = teacher(views)
        assert logits.dtype == torch.float32
        assert torch.equal(logits, logits.to(getattr(torch, precision)).float())  # the network answered in less
        indices, probs, residual = topk_probs(logits, 10)
    assert (indices.dtype, probs.dtype, residual.dtype) == (torch.int64, torch.float32, torch.float32)
    assert {each.device for each in (logits, indices, probs, residual)} == {teacher.device}


@NEEDS_GPU
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_step_and_its_meters_do_not_wait(compiled: bool, tmp_path: Path) -> None:
    get_ready, step = a_run(tmp_path, Job(0, 1, GPU), compiled)
    with loading(SyntheticBatches(8, 64, 10, 1000), range(4), RuntimeConfig(workers=0), GPU) as batches:
        get_ready(next(batches))
        steps = 0
        for batch in batches:
            with waiting_is_an_error():
                step(batch)
            steps += 1
    assert steps == 3


@NEEDS_GPU
def test_top_k_does_not_wait() -> None:
    logits = torch.randn(16, 21841, device="cuda")
    with waiting_is_an_error():
        topk_probs(logits, 100)


@NEEDS_GPU
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_a_batch_of_an_evaluation_does_not_wait(compiled: bool) -> None:
    score = a_scored_batch(GPU, Compiler(Job(0, 1, GPU), compiled))
    score()  # compiles
    with waiting_is_an_error():
        score()


@NEEDS_GPU
def test_logits_of_a_teacher_in_float16_stay_on_the_gpu_as_float32() -> None:
    teacher, views = a_teacher(GPU, "auto"), some_views(GPU)
    with torch.inference_mode(), waiting_is_an_error():
        logits = teacher(views)
    assert teacher.precision == "float16"
    assert (logits.dtype, logits.device.type) == (torch.float32, "cuda")
