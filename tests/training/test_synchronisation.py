"""A training step and a dump batch launch work on the GPU and never wait for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.feeding import SyntheticBatches
from benchmarks.networks import student_run, student_state
from tests.conftest import NEEDS_GPU
from tinyvit_kd.config.training import DistillLossConfig, RuntimeConfig
from tinyvit_kd.data.loader import loading
from tinyvit_kd.models.teacher import topk_probs
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.training.loop import train_step
from tinyvit_kd.training.meters import Meters
from tinyvit_kd.training.objectives import DistillObjective
from tinyvit_kd.training.student_forward import student_forward

pytestmark = NEEDS_GPU


@contextmanager
def waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_step_and_its_meters_do_not_wait(tmp_path: Path) -> None:
    job = Job(0, 1, torch.device("cuda"))
    state = student_state("tiny_vit_5m_224", 1000, 64, 8, job.device)
    run = student_run(state, 8, job, tmp_path, precision="bfloat16")
    meters = Meters(job.device, run.name_samples)
    maker = SyntheticBatches(8, 64, 10, 1000)
    objective = DistillObjective(DistillLossConfig())
    with loading(maker, range(4), RuntimeConfig(workers=0), job.device) as batches:
        forward = student_forward(run, state)
        train_step(run, state, forward, next(batches), objective)  # the first step creates the optimiser's state
        for batch in batches:
            with waiting_is_an_error():
                meters.update(train_step(run, state, forward, batch, objective), state.step, 0.0)
            state.step += 1
    assert state.step == 3


def test_top_k_does_not_wait() -> None:
    logits = torch.randn(16, 21841, device="cuda")
    with waiting_is_an_error():
        topk_probs(logits, 100)
