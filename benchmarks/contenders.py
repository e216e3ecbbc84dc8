"""Whose training steps are compared: ours, the bare one, that of the official code and timm's.

Each of them is built by a function that returns its steps by column. Those that one function returns share a network.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from torch import nn

from benchmarks.feeding import random_labels
from benchmarks.networks import (
    bare_step,
    compile_or_refuse,
    random_network,
    require_compiling,
    student_run,
    student_state,
)
from benchmarks.official import RECIPES, OfficialStep
from tinyvit_kd.config.training import DistillLossConfig
from tinyvit_kd.config.view_spec import IMAGENET_MEAN, IMAGENET_STD
from tinyvit_kd.models.normalizer import Normalizer
from tinyvit_kd.runtime.device import autocast, move_to_device, resolve_precision
from tinyvit_kd.runtime.distributed import Job
from tinyvit_kd.training.batch import Batch
from tinyvit_kd.training.loop import train_step
from tinyvit_kd.training.objectives import DistillObjective
from tinyvit_kd.training.student_forward import student_forward

OURS, BARE, OFFICIAL, WHOLE, TIMM = "train_step", "bare step", "official step", "official loop", "timm's step"
# Stochastic depth of stage two's recipes, official and ours; others have timm's own.
DROP_PATH = {"tiny_vit_21m_224": 0.1, "tiny_vit_11m_224": 0.0, "tiny_vit_5m_224": 0.0}
THEIRS = "timm"  # whose steps are built last
Steps = dict[str, Callable[[], object]]  # by column
GRAPHS = "reduce-overhead"  # torch.compile's mode that makes CUDA graphs


@dataclass(frozen=True)
class Mode:
    """How a step runs, ours and where possible the others'.

    Attributes:
        compiled: torch.compile's mode; None: eager.
        benchmark: whether cuDNN tries its convolutions in ours; the official code and timm's script do so always.
    """

    compiled: str | None = None
    channels_last: bool = True
    benchmark: bool = True


MODES = {
    "eager": Mode(),
    "compiled": Mode("default"),
    "graphs": Mode(GRAPHS),
    "no-cudnn-benchmark": Mode(benchmark=False),
    "planar": Mode(channels_last=False),
}


@dataclass(frozen=True)
class Case:
    """One row: a student at a batch size, in a mode."""

    student: str
    size: int
    mode: str

    @property
    def name(self) -> str:
        """For people and results."""
        return f"{self.student}, batch {self.size}, {self.mode}"

    @property
    def how(self) -> Mode:
        """What the mode means."""
        return MODES[self.mode]


def contenders(case: Case, batch: Batch, options: argparse.Namespace, job: Job) -> dict[str, Callable[[], Steps]]:
    """What builds each one's steps on a batch that lies on the device."""
    found = {"ours": lambda: our_steps(case, batch, options, job)}
    if options.peer is not None and case.student in RECIPES:
        found["official"] = lambda: official_steps(case, batch, options)
    return found | {THEIRS: lambda: timm_steps(case, batch, options, job)}


def our_steps(case: Case, batch: Batch, options: argparse.Namespace, job: Job) -> Steps:
    """``train_step`` with stage two's objective, and the bare step of the same student."""
    how, drop_path = case.how, DROP_PATH.get(case.student)
    setting = case.student, options.classes, options.size, case.size, job.device
    state = student_state(*setting, drop_path, how.channels_last)
    folder = Path(tempfile.gettempdir())  # nothing is written to it
    if how.compiled is not None:
        require_compiling(job)
    run = student_run(
        state,
        case.size,
        job,
        folder,
        precision=options.precision,
        compiled=how.compiled is not None,
        channels_last=how.channels_last,
        cuda_graphs=how.compiled == GRAPHS,
    )
    forward = student_forward(run, state)
    objective = DistillObjective(DistillLossConfig())
    return {
        OURS: lambda: train_step(run, state, forward, batch, objective),
        BARE: lambda: bare_step(run, state, batch),
    }


def official_steps(case: Case, batch: Batch, options: argparse.Namespace) -> Steps:
    """The official code's, which is eager in any mode: with its optimiser step as the last thing, or its whole loop."""
    assert batch.targets is not None
    device = batch.views.device
    images = Normalizer(IMAGENET_MEAN, IMAGENET_STD, device)(batch.views)  # its loader does that
    labels = random_labels(options.classes, case.size, device)
    student = OfficialStep(options.peer, case.student, options.classes, images, batch.targets, labels)
    return {OFFICIAL: student.step, WHOLE: student.whole_step}


def timm_steps(case: Case, batch: Batch, options: argparse.Namespace, job: Job) -> Steps:
    """timm's plain step: its network and AdamW, autocast, cross-entropy to labels; in the memory format of ours."""
    how, device = case.how, job.device
    network = random_network(case.student, options.classes, options.size, DROP_PATH.get(case.student))
    network = move_to_device(network, device, how.channels_last).train()
    optimizer = create_optimizer_v2(network, opt="adamw", lr=1e-4, weight_decay=0.05)
    normalize = Normalizer(IMAGENET_MEAN, IMAGENET_STD, device, how.channels_last)  # its prefetching loader does that
    labels, criterion = random_labels(options.classes, case.size, device), LabelSmoothingCrossEntropy(0.1)
    precision = resolve_precision(device, options.precision, trains=True)
    compile_as(how, network, job)

    def step() -> None:
        with autocast(device, precision):
            loss = criterion(network(normalize(batch.views)), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return {TIMM: step}


def compile_as(how: Mode, network: nn.Module, job: Job) -> None:
    """Compile a network in place, if the mode says so.

    Raises:
        RuntimeError: torch.compile does not work here.
    """
    if how.compiled is not None:
        compile_or_refuse(network, job, how.compiled)


def device_bytes(batch: Batch) -> int:
    """Bytes of a batch's tensors."""
    tensors = [batch.views, batch.weights, *(batch.targets or ())]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def set_benchmark(column: str, how: Mode) -> None:
    """Let cuDNN try its convolutions, or not, as whoever's column it is does."""
    torch.backends.cudnn.benchmark = column in (OFFICIAL, WHOLE, TIMM) or how.benchmark
