"""Evaluations and checkpoints that are left are those that the loop will make."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from benchmarks.networks import student_run
from tinyvit_kd.config.training import TrainConfig
from tinyvit_kd.runtime.distributed import solo_job
from tinyvit_kd.training.pauses import checkpoint_due, evaluation_due, pauses_left
from tinyvit_kd.training.state import TrainState

NETWORK = nn.Linear(2, 2)
STATE = TrainState(NETWORK, torch.optim.SGD(NETWORK.parameters()), None)
RUN = student_run(STATE, 4, solo_job(), Path("nowhere"))


@given(
    steps_per_epoch=st.integers(1, 6),
    epochs=st.integers(1, 6),
    evaluate_every=st.integers(1, 4),
    checkpoint_every=st.integers(1, 9),
    evaluates=st.booleans(),
)
def test_they_are_counted_as_they_are_made(
    steps_per_epoch: int, epochs: int, evaluate_every: int, checkpoint_every: int, evaluates: bool
) -> None:
    config = TrainConfig(evaluate_every=evaluate_every, checkpoint_every=checkpoint_every)
    total = steps_per_epoch * epochs
    run = replace(RUN, config=config, steps_per_epoch=steps_per_epoch, total_steps=total)
    evaluations = [evaluates and evaluation_due(run, step) for step in range(1, total + 1)]
    checkpoints = [checkpoint_due(run, step) or evaluations[step - 1] for step in range(1, total + 1)]
    for done in range(total + 1):
        expected = {"evaluation": sum(evaluations[done:]), "checkpoint": sum(checkpoints[done:])}
        assert pauses_left(run, evaluates, done) == expected
