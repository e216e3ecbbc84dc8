"""What stays the same while a student is trained."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from tinyvit_kd.config.training import TrainConfig
from tinyvit_kd.runtime.compiling import Compiler
from tinyvit_kd.runtime.device import autocast, resolve_precision
from tinyvit_kd.runtime.distributed import Job, solo_job
from tinyvit_kd.runtime.metric_loggers import MetricsWriter
from tinyvit_kd.runtime.progress import Progress
from tinyvit_kd.training.input_sizes import InputSizes
from tinyvit_kd.training.meters import NameSamples


@dataclass(frozen=True)
class Run:
    """What stays the same during training."""

    job: Job
    folder: Path
    config: TrainConfig
    identity: dict[str, str]  # a checkpoint with another identity is not continued
    steps_per_epoch: int
    total_steps: int
    global_batch_size: int
    micro_batches: int  # forward-backward passes per step, in each process
    seed: int
    clip_grad: float | None
    normalize: Callable[[torch.Tensor], torch.Tensor]  # views [B, 3, S, S] to the network's input
    precision: str  # as ``runtime.precision`` of a recipe
    set_rates: Callable[[int], None]  # sets the learning rates of a step
    name_samples: NameSamples
    stage_state: dict[str, Any] = field(default_factory=dict)  # saved in each checkpoint, as "kept", for the stage
    compiler: Compiler = field(default_factory=lambda: Compiler(solo_job()))  # by default, compiles nothing
    gradient_compression: str = "none"  # as ``runtime.gradient_compression`` of a recipe
    fsync: bool = False
    on_checkpoint: Callable[[Path], None] = lambda _: None  # told of each that rank 0 has written
    where: str = ""  # path or URL of the run, for people; by default its folder
    data_timeout: float = 600  # seconds without an answer from the disk
    progress: Progress = field(default_factory=Progress)  # what is told of the run while it lasts
    metrics: MetricsWriter = field(default_factory=MetricsWriter)  # by default, writes nowhere
    sizes: InputSizes = field(default_factory=InputSizes)  # of the network's input; by default, that of the views
    counted: Callable[[], dict[str, float]] = dict  # by this rank since the last call; every rank has the same names

    @property
    def static_graph(self) -> bool:
        """Whether processes may rely on the order in which gradients came in the first step (``data_parallel``).

        Not on the CPU: gradients would be added in buckets of other bounds, and the sums of three processes would have
        other bits. Not with micro-batches: torch 2.14 fails in the first step if that has some that are not averaged.
        Not with compiled code either, where torch has been seen to fail (github.com/pytorch/pytorch/issues/93672).
        """
        return self.job.device.type == "cuda" and self.micro_batches == 1 and not self.compiler.on

    def autocast(self) -> AbstractContextManager[None]:
        """The autocast context of a forward pass."""
        return autocast(self.job.device, self.resolved_precision)

    @property
    def resolved_precision(self) -> str:
        """What ``precision`` means here: float32 or bfloat16."""
        return resolve_precision(self.job.device, self.precision, trains=True)
