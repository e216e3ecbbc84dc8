"""How a student is trained: loss, schedule, and when to write and evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tinyvit_kd.config.base import Section, unit


class DistillLossConfig(Section):
    """Stage two's loss: ``alpha`` times the teacher's part plus 1 - ``alpha`` times cross-entropy to the label."""

    kind: Literal["soft", "hard", "token"] = Field(
        "soft",
        description="soft: cross-entropy to the teacher's distribution; hard: cross-entropy to the teacher's best "
        "class; token: DeiT's loss, in which the distillation token learns the teacher's best class and the class "
        "token learns the label",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="temperature of teacher and student, only for soft; the teacher's part is multiplied by its square",
    )
    alpha: float | None = Field(
        None,
        gt=0,
        le=1,
        description="weight of the teacher's part; null: 0.5 for token, otherwise 1, which needs no labels",
        json_schema_extra=unit("fraction"),
    )
    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="probability mass of the label that is spread evenly over all classes",
        json_schema_extra=unit("fraction"),
    )

    @property
    def teacher_share(self) -> float:
        """Alpha, with its default."""
        return self.alpha if self.alpha is not None else 0.5 if self.kind == "token" else 1.0

    @property
    def uses_labels(self) -> bool:
        """Whether labels are part of the loss."""
        return self.teacher_share < 1

    @model_validator(mode="after")
    def _every_part_learns(self) -> DistillLossConfig:
        if self.kind == "token" and not self.uses_labels:
            raise ValueError("with alpha 1 nothing would train the class token: use soft or hard, or a smaller alpha")
        if self.kind != "soft" and self.temperature != 1:
            raise ValueError(f"temperature applies only to soft, not to {self.kind}")
        return self


class PlainLossConfig(Section):
    """Stage three's loss: cross-entropy to the label."""

    label_smoothing: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="probability mass of the label that is spread evenly over all classes",
        json_schema_extra=unit("fraction"),
    )


class ScheduleConfig(Section):
    """Length of training, batch size and order of samples."""

    epochs: int = Field(ge=1, description="passes over the samples", json_schema_extra=unit("epochs"))
    views_per_sample: int = Field(
        1,
        ge=1,
        description="views of each sample in an epoch, all in the same batch and from one decode (DeiT's repeated "
        "augmentation, but DeiT counts this many epochs for one of ours)",
        json_schema_extra=unit("views per sample"),
    )
    warmup_epochs: float = Field(
        0,
        ge=0,
        description="linear warm-up, included in epochs",
        json_schema_extra=unit("epochs"),
    )
    global_batch_size: int = Field(
        ge=1,
        description="views in one optimiser step, over all ranks; must be a multiple of lanes x views_per_sample",
        json_schema_extra=unit("views"),
    )
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        description="views in one forward pass; null: this rank's whole share. Batch norm and stochastic depth work "
        "per micro-batch: if this is set, training is the same for any number of ranks, apart from rounding",
        json_schema_extra=unit("views"),
    )
    lanes: int = Field(
        64,
        ge=1,
        description="number of slices that an epoch's order is cut into; must be a multiple of the number of ranks",
        json_schema_extra=unit("lanes"),
    )
    window: int = Field(
        4096,
        ge=1,
        description="samples that are shuffled together within a lane",
        json_schema_extra=unit("samples"),
    )
    seed: int = Field(0, ge=0, description="seed of the order, the initial weights and stochastic depth")

    def fits(self, processes: int) -> bool:
        """Whether so many processes own equally many lanes, and whole micro-batches of each step."""
        share, rest = divmod(self.global_batch_size, processes)
        return self.lanes % processes == rest == share % (self.micro_batch_size or share or 1) == 0

    @model_validator(mode="after")
    def _warmup_fits(self) -> ScheduleConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be smaller than epochs ({self.epochs})")
        return self


class TrainConfig(Section):
    """What is trained, and when to log, save and evaluate."""

    trainable: Literal["all", "head"] = Field(
        "all",
        description="all: the whole network; head: only the classification head, or both heads of a distilled network. "
        "Everything else is then frozen and in evaluation mode, as in a linear probe",
    )
    freeze_bn_stats: bool = Field(False, description="whether batch norm stays in evaluation mode during training")
    on_non_finite: Literal["stop", "skip"] = Field(
        "stop",
        description="what to do if a loss or gradient is NaN or infinite; stop: stop the run; skip: leave out the step "
        "and count it, which waits for the device at every step",
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay of a moving average of the weights, which is then evaluated and exported, beside the "
        "weights themselves (raw); null: no average",
        json_schema_extra=unit("fraction per step"),
    )
    log_every: int = Field(
        50, ge=1, description="interval between log lines", json_schema_extra=unit("optimiser steps")
    )
    checkpoint_every: int = Field(
        1000, ge=1, description="interval between checkpoints", json_schema_extra=unit("optimiser steps")
    )
    keep_checkpoints: int = Field(
        2, ge=1, description="number of newest checkpoints to keep", json_schema_extra=unit("checkpoints")
    )
    evaluate_every: int = Field(
        1, ge=1, description="interval between evaluations, if eval is given", json_schema_extra=unit("epochs")
    )


Precision = Literal["auto", "float32", "bfloat16", "float16"]


class RuntimeConfig(Section):
    """Settings of the machine. They change neither the order of samples nor the views.

    The precision of a dump is recorded in the store's manifest.
    """

    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="auto: CUDA if there is a GPU, otherwise the CPU"
    )
    precision: Precision = Field(
        "auto",
        description="autocast precision; auto: float32 on the CPU; on CUDA bfloat16 for training, and float16 for "
        "teachers and evaluation, as in the official code. float16 is for teachers and evaluation alone",
    )
    workers: int = Field(
        2,
        ge=0,
        description="data loading processes; 0: load in the main process",
        json_schema_extra=unit("processes per rank"),
    )
    prefetch: int = Field(
        4, ge=1, description="batches that each worker prepares ahead", json_schema_extra=unit("batches per worker")
    )
    pin_workers: bool = Field(
        False,
        description="whether to pin each worker to a core of its own, those near the rank's GPU first, and to keep the "
        "main process on the cores that are left. On the CPU, set threads to their number",
    )
    data_timeout: float = Field(
        600,
        gt=0,
        description="time without a batch or an answer from the disk after which the run stops",
        json_schema_extra=unit("seconds"),
    )
    peer_timeout: float | None = Field(
        20,
        ge=5,
        description="time without a sign of life from another process of the job after which this one ends, so that "
        "the job can be formed anew; null: only when a collective operation has taken half an hour, or other work 12",
        json_schema_extra=unit("seconds"),
    )
    work_dir: Path | None = Field(
        None,
        description="folder on this machine in which a run whose output is a URL works, and a dump into a store at a "
        "URL; null: in the user's cache folder",
    )
    threads: int | None = Field(
        None,
        ge=1,
        description="computing threads on the CPU; null: torch's choice. Leave some cores to the workers",
        json_schema_extra=unit("threads per rank"),
    )
    compile: Literal["auto", True, False] = Field(
        "auto",
        description="whether to compile networks and losses with torch.compile; auto: on CUDA, not on the CPU. Where "
        "it does not work, a line says why, and they run as they are",
    )
    cuda_graphs: bool = Field(
        False,
        description="whether compiled code is replayed as CUDA graphs (torch.compile's mode reduce-overhead), which "
        "spares small networks the time of launching; needs compile, and memory; without effect on the CPU",
    )
    gradient_compression: Literal["none", "bfloat16"] = Field(
        "none",
        description="how gradients are sent between the processes of a training; bfloat16 halves what is sent, and "
        "rounds it. One process sends none",
    )
    channels_last: bool = Field(True, description="whether to use the channels-last memory format on CUDA")
    tf32: bool = Field(
        False,
        description="whether float32 on CUDA may be computed in TF32, with 10 bits of mantissa for 23; what runs in "
        "bfloat16 or float16 is not affected",
    )
    cudnn_autotune: bool = Field(
        True,
        description="whether cuDNN times its algorithms for each shape and takes the fastest; on CUDA, and not with "
        "deterministic",
    )
    deterministic: bool = Field(
        False,
        description="whether CUDA may use only operators that give the same bits each time, so that a run that was "
        "killed ends as one that was not; slower. On the CPU this is so in any case",
    )
    fsync: bool = Field(
        False, description="whether to flush blocks and checkpoints to disk, so that they survive a power loss"
    )

    @model_validator(mode="after")
    def _graphs_are_of_compiled_code(self) -> RuntimeConfig:
        if self.cuda_graphs and self.compile is False:
            raise ValueError("cuda_graphs replays compiled code: leave compile out, or set it to true")
        return self
