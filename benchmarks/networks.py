"""Networks with random weights under timm's names: what they compute takes as long as with trained ones."""

from __future__ import annotations

from pathlib import Path

import torch
from timm.data import resolve_model_data_config
from torch import nn

from tinyvit_kd.config.models import ModelSpec
from tinyvit_kd.config.training import OptimConfig, TrainConfig
from tinyvit_kd.config.view_spec import IMAGENET_MEAN, IMAGENET_STD
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import MODEL, ModelCard, save_model
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.device import move_to_device
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.training.learning_rate import build_scheduler
from tinyvit_kd.training.optim import build_optimizer
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState

STEPS = 1 << 20  # of the schedule: more than are timed


def random_network(name: str, num_classes: int, size: int) -> nn.Module:
    """A timm network for views of ``size`` pixels."""
    return build_network(ModelSpec(name=name), num_classes, size)


def write_teacher(folder: Path, name: str, num_classes: int, size: int) -> Path:
    """A model file that stage one takes as its teacher."""
    network = random_network(name, num_classes, size)
    data = resolve_model_data_config(network)
    card = ModelCard(
        architecture=ModelSpec(name=name).model_dump(mode="json"),
        num_classes=num_classes,
        image_size=size,
        mean=data["mean"],
        std=data["std"],
    )
    save_model(folder / MODEL, network.state_dict(), card)
    return folder


def student_state(name: str, num_classes: int, size: int, batch: int, device: torch.device) -> TrainState:
    """A student with its optimiser, in training mode."""
    model = move_to_device(random_network(name, num_classes, size), device, channels_last=True).train()
    return TrainState(model, build_optimizer(model, _optim(), batch), None)


def student_run(
    state: TrainState,
    batch: int,
    job: Job,
    folder: Path,
    steps: int = STEPS,
    precision: str = "auto",
    compiled: bool = False,
) -> Run:
    """What the training loop needs beside the state; ``folder`` is written to at the end alone, after ``steps``."""
    return Run(
        job=job,
        folder=folder,
        config=TrainConfig(checkpoint_every=STEPS),
        identity={},
        steps_per_epoch=steps,
        total_steps=steps,
        global_batch_size=batch,
        micro_batches=1,
        seed=0,
        clip_grad=_optim().clip_grad,
        normalize=Normalizer(IMAGENET_MEAN, IMAGENET_STD, job.device, channels_last=True),
        precision=precision,
        set_rates=build_scheduler(state.optimizer, _optim(), STEPS, 0, batch).step_update,
        name_samples=lambda _step, _rows: [],
        compiler=Compiler(job, compiled),
    )


def _optim() -> OptimConfig:
    return OptimConfig(base_lr=2.5e-4, weight_decay=0.01)
