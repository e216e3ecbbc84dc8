"""A student in training as stage two has it, without its command: network, optimiser, loop settings, batches."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch

from tinyvit_kd.config.models import ModelSpec
from tinyvit_kd.config.training import OptimConfig, TrainConfig
from tinyvit_kd.config.views import IMAGENET_MEAN, IMAGENET_STD
from tinyvit_kd.data.buffers import Arrays, Layout, Maker, Tensors
from tinyvit_kd.models.network import build_network
from tinyvit_kd.runtime.batch import Batch
from tinyvit_kd.runtime.device import Normalizer, autocast, place_network
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.stages.batches import batch_layout
from tinyvit_kd.training.loop import Run
from tinyvit_kd.training.optim import build_optimizer, build_scheduler
from tinyvit_kd.training.state import State

OPTIM = OptimConfig(base_lr=1e-3)


def new_state(name: str, classes: int, size: int, device: torch.device) -> State:
    """A timm model with random weights, and its optimiser."""
    model = build_network(ModelSpec(name=name), classes, size)
    place_network(model, device, channels_last=True)
    return State(model, build_optimizer(model, OPTIM, 512), None)


def new_run(
    state: State, job: Job, folder: Path, steps: int, batch: int, precision: str, compiled: bool = False
) -> Run:
    """What stays the same for ``steps`` steps of ``batch`` views; nothing is evaluated, and saved only at the end."""
    return Run(
        job=job,
        folder=folder,
        config=TrainConfig(checkpoint_every=1 << 30),
        identity={},
        steps_per_epoch=steps,
        total_steps=steps,
        global_batch_size=batch,
        micro_batches=1,
        seed=0,
        clip_grad=OPTIM.clip_grad,
        normalize=Normalizer(IMAGENET_MEAN, IMAGENET_STD, job.device, channels_last=True),
        autocast=partial(autocast, job.device, precision),
        set_rates=build_scheduler(state.optimizer, OPTIM, 1 << 20, 1000, 512).step_update,
        name_samples=lambda _step, rows: [str(row) for row in rows],
        compile=compiled,
    )


class SyntheticBatches(Maker[int, Batch]):
    """Batches of stage two that cost next to nothing: random views, made once a buffer, and random records."""

    def __init__(self, batch: int, size: int, topk: int, classes: int) -> None:
        self.shape, self.classes = (batch, size, topk), classes

    @property
    def layout(self) -> Layout:
        """As stage two's."""
        return batch_layout(*self.shape)

    def fill(self, task: int, arrays: Arrays) -> int:
        """Records of their own for every task."""
        batch, _, topk = self.shape
        draw = np.random.default_rng(task)
        if not arrays["weights"].any():  # a buffer's first use
            arrays["views"][:] = draw.integers(0, 256, arrays["views"].shape, dtype=np.uint8)
        masses = draw.random((batch, topk + 1), dtype=np.float32)
        masses /= masses.sum(axis=1, keepdims=True)
        arrays["probs"][:], arrays["residual"][:], arrays["weights"][:] = masses[:, 1:], masses[:, 0], 1
        arrays["indices"][:] = np.cumsum(draw.integers(1, self.classes // topk, (batch, topk)), axis=1) - 1
        return 0

    def join(self, tensors: Tensors, told: int) -> Batch:
        """The batch on the device."""
        return Batch.of(tensors, told)
