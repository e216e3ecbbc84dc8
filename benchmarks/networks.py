"""Networks with random weights under timm's names: what they compute takes as long as with trained ones."""

from __future__ import annotations

from pathlib import Path

import torch
from timm.data import resolve_model_data_config
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.config.optim import OptimConfig
from tinyvit_kd.config.training import TrainConfig
from tinyvit_kd.config.view_spec import IMAGENET_MEAN, IMAGENET_STD
from tinyvit_kd.models.families import build_network
from tinyvit_kd.models.modelfile import MODEL, ModelCard, save_model
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.runtime.compiling import Compiler, why_not
from tinyvit_kd.runtime.device import move_to_device
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.learning_rate import build_scheduler
from tinyvit_kd.training.loss import soft_loss
from tinyvit_kd.training.optim import build_optimizer
from tinyvit_kd.training.run import Run
from tinyvit_kd.training.state import TrainState
from tinyvit_kd.training.student_forward import student_logits

STEPS = 1 << 20  # of the schedule: more than are timed


def random_network(name: str, num_classes: int, size: int, drop_path_rate: float | None = None) -> nn.Module:
    """A timm network for views of ``size`` pixels; None: the stochastic depth that is its own."""
    return build_network(ModelSpec(name=name, drop_path_rate=drop_path_rate), num_classes, size)


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


def student_state(
    name: str,
    num_classes: int,
    size: int,
    batch: int,
    device: torch.device,
    drop_path_rate: float | None = None,
    channels_last: bool = True,
) -> TrainState:
    """A student with its optimiser, in training mode."""
    network = random_network(name, num_classes, size, drop_path_rate)
    model = move_to_device(network, device, channels_last).train()
    return TrainState(model, build_optimizer(model, _optim(), batch), None)


def student_run(
    state: TrainState,
    batch: int,
    job: Job,
    folder: Path,
    steps: int = STEPS,
    precision: str = "auto",
    compiled: bool = False,
    channels_last: bool = True,
    cuda_graphs: bool = False,
) -> Run:
    """What the training loop needs beside the state; ``folder`` is written to at the end alone, after ``steps``.

    The state's gradients get memory of their own where CUDA graphs write them.
    """
    compiler = Compiler(job, compiled, cuda_graphs)
    if compiler.cuda_graphs:
        state.hold_gradients()
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
        normalize=Normalizer(IMAGENET_MEAN, IMAGENET_STD, job.device, channels_last),
        precision=precision,
        set_rates=build_scheduler(state.optimizer, _optim(), STEPS, 0, batch).step_update,
        name_samples=lambda _step, _rows: [],
        compiler=compiler,
    )


def compile_or_refuse(network: nn.Module, job: Job, mode: str | None = None) -> None:
    """Compile a network of others in place, as their scripts do.

    Raises:
        RuntimeError: torch.compile does not work here.
    """
    require_compiling(job)
    network.compile(mode=mode)


def require_compiling(job: Job) -> None:
    """Raise a RuntimeError where torch.compile does not work."""
    if (reason := why_not(job.device)) is not None:
        raise RuntimeError(f"torch.compile does not work here: {reason}")


def bare_step(run: Run, state: TrainState, batch: Batch) -> None:
    """Forward, sparse loss, backward, optimiser step, and nothing else; compiled as the run is."""
    assert batch.targets is not None
    run.compiler.begin_step()
    with run.autocast():
        logits = run.compiler(student_logits, state.model, run.normalize, batch.views)
    loss: torch.Tensor = run.compiler(soft_loss, logits, *batch.targets, batch.weights)
    loss.backward()  # type: ignore[no-untyped-call]
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=not run.compiler.cuda_graphs)


def _optim() -> OptimConfig:
    return OptimConfig(base_lr=2.5e-4, weight_decay=0.01)
