"""Means of training scalars, and the check that loss and gradients stay finite."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from tinyvit_kd.errors import NonFiniteLossError
from tinyvit_kd.runtime.distributed import Job, solo_job
from tinyvit_kd.training.meters import Meters, StepResult

CPU = torch.device("cpu")


def name_samples(step: int, rows: Sequence[int]) -> list[str]:
    return [f"sample {row} of step {step}" for row in rows]


def result_of(loss: float, finite: tuple[bool, ...] = (True, True), **others: float) -> StepResult:
    scalars = {name: torch.tensor(value) for name, value in {"loss": loss, **others}.items()}
    return StepResult(scalars, torch.tensor(finite))


def test_means_cover_the_steps_since_the_last_reading() -> None:
    meters = Meters(CPU, name_samples)
    for step, loss in enumerate((1.0, 2.0, 6.0)):
        meters.update(result_of(loss, grad_norm=2 * loss), step, waited=0.0)
    first = meters.read(solo_job())
    meters.update(result_of(10.0, grad_norm=0.0), 3, waited=0.0)
    second = meters.read(solo_job())
    assert (first["loss"], first["grad_norm"]) == (3.0, 6.0)
    assert (second["loss"], second["grad_norm"]) == (10.0, 0.0)


def test_a_step_does_not_change_the_scalars_it_was_given() -> None:
    meters = Meters(CPU, name_samples)
    given = result_of(1.5)
    for step in range(3):
        meters.update(given, step, waited=0.0)
    assert given.scalars["loss"].item() == 1.5


def test_time_is_divided_between_computing_and_waiting_for_data() -> None:
    meters = Meters(CPU, name_samples)
    time.sleep(0.05)
    for step in range(2):
        meters.update(result_of(1.0), step, waited=0.01)
    values = meters.read(solo_job())
    assert values["step_seconds"] >= 0.025
    assert values["data_wait"] == pytest.approx(0.02 / (2 * values["step_seconds"]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["loss", "grad_norm"])
def test_the_first_step_that_is_not_finite_is_named(bad: float, name: str) -> None:
    meters = Meters(CPU, name_samples)
    for step in range(5, 10):
        values = {"loss": 1.0, "grad_norm": 1.0} | ({name: bad} if step >= 7 else {})
        meters.update(result_of(values["loss"], grad_norm=values["grad_norm"]), step, waited=0.0)
    with pytest.raises(NonFiniteLossError, match="step 7"):
        meters.require_finite(solo_job())
    with pytest.raises(NonFiniteLossError, match="step 7"):
        meters.read(solo_job())


def test_samples_whose_outputs_are_not_finite_are_named() -> None:
    meters = Meters(CPU, name_samples)
    meters.update(result_of(1.0, (True, True, True)), 0, waited=0.0)
    meters.update(result_of(math.nan, (True, False, True)), 1, waited=0.0)
    meters.update(result_of(math.nan, (False, False, False)), 2, waited=0.0)
    with pytest.raises(NonFiniteLossError, match="not finite for 1 samples, in a batch with sample 1 of step 1"):
        meters.require_finite(solo_job())


def test_if_all_outputs_are_finite_the_batch_is_named() -> None:
    meters = Meters(CPU, name_samples)
    meters.update(result_of(1.0, grad_norm=math.inf), 3, waited=0.0)
    with pytest.raises(NonFiniteLossError, match=r"finite outputs, but .* sample 0 of step 3, sample 1 of step 3"):
        meters.require_finite(solo_job())


def test_skipped_steps_are_not_in_the_means() -> None:
    meters = Meters(CPU, name_samples)
    meters.update(result_of(2.0), 0, waited=0.0)
    meters.update(result_of(math.nan)._replace(applied=False), 1, waited=0.0)
    assert meters.read(solo_job())["loss"] == 2.0


def test_a_finite_loss_passes_and_an_earlier_reading_does_not_hide_a_later_fault() -> None:
    meters = Meters(CPU, name_samples)
    meters.update(result_of(1.0), 0, waited=0.0)
    meters.require_finite(solo_job())
    meters.read(solo_job())
    meters.update(result_of(math.nan), 1, waited=0.0)
    with pytest.raises(NonFiniteLossError, match="step 1"):
        meters.require_finite(solo_job())


def test_two_processes_read_the_same_means_and_stop_together() -> None:
    store = HashStore()

    def process(rank: int) -> tuple[dict[str, float], str]:
        """One of two members of a real group; threads, because starting interpreters takes seconds."""
        group = dist.ProcessGroupGloo(store, rank, 2, timedelta(seconds=30))
        job, meters = Job(rank, 2, CPU, group), Meters(CPU, name_samples)  # type: ignore[arg-type]
        meters.update(result_of(1.0 + rank, accuracy=float(rank)), 0, waited=0.0)
        values = meters.read(job)
        meters.update(result_of(math.nan if rank == 1 else 1.0), 4, waited=0.0)
        with pytest.raises(NonFiniteLossError) as caught:
            meters.require_finite(job)
        return values, caught.value.where

    with ThreadPoolExecutor(2) as pool:
        for values, where in pool.map(process, range(2)):
            assert (values["loss"], values["accuracy"]) == (1.5, 0.5)
            assert where == "step 4"
