"""How a student is trained: loss, optimiser, schedule, and when to write and evaluate."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tinyvit_kd.config.base import Section

Decay = Annotated[float, Field(ge=0, lt=1)]


class DistillLossConfig(Section):
    """Stage two's loss: ``alpha`` of the teacher's part and 1 - ``alpha`` of cross-entropy to the label."""

    kind: Literal["soft", "hard", "token"] = Field(
        "soft",
        description="soft: cross-entropy to the teacher's distribution; hard: to its best class; token: DeiT's, the "
        "distillation token to the teacher's best class and the class token to the label",
    )
    temperature: float = Field(
        1.0, gt=0, description="soft alone: softens teacher and student alike; its part is scaled by T^2"
    )
    alpha: float | None = Field(
        None, gt=0, le=1, description="the teacher's share; null: 1, which needs no labels, and 0.5 for token"
    )
    label_smoothing: float = Field(0.1, ge=0, lt=1, description="of the label's part: mass spread over all classes")

    @property
    def teacher_share(self) -> float:
        """Alpha, with its default."""
        return self.alpha if self.alpha is not None else 0.5 if self.kind == "token" else 1.0

    @property
    def uses_labels(self) -> bool:
        """Whether the labels have a part."""
        return self.teacher_share < 1

    @model_validator(mode="after")
    def _every_part_learns(self) -> DistillLossConfig:
        if self.kind == "token" and not self.uses_labels:
            raise ValueError("with alpha 1 nothing would train the class token: use soft or hard, or a smaller alpha")
        if self.kind != "soft" and self.temperature != 1:
            raise ValueError(f"temperature means something for soft alone, not for {self.kind}")
        return self


class PlainLossConfig(Section):
    """Stage three's loss: cross-entropy to the label."""

    label_smoothing: float = Field(0.1, ge=0, lt=1, description="mass spread evenly over all classes")


class OptimConfig(Section):
    """AdamW, with rates given for a batch of ``lr_batch`` and scaled linearly to the global batch."""

    base_lr: float = Field(gt=0, description="peak learning rate at a global batch of lr_batch")
    warmup_lr: float = Field(5e-7, ge=0, description="first rate of the warm-up, scaled like base_lr")
    min_lr: float = Field(5e-6, ge=0, description="last rate of the cosine, scaled like base_lr")
    lr_batch: int = Field(512, ge=1, description="the batch for which the three rates are given, samples")
    weight_decay: float = Field(0.05, ge=0, description="decoupled; none on 1-D tensors, biases, attention biases")
    betas: tuple[Decay, Decay] = Field((0.9, 0.999), description="AdamW's moment decays")
    eps: float = Field(1e-8, gt=0, description="AdamW's epsilon")
    clip_grad: float | None = Field(5.0, gt=0, description="largest global gradient norm; null: no clipping")
    layer_decay: float = Field(1.0, gt=0, le=1, description="factor of the rate from each block to the one below")


class ScheduleConfig(Section):
    """The order of training and its length."""

    epochs: int = Field(ge=1, description="passes over the samples")
    views_per_sample: int = Field(
        1,
        ge=1,
        description="views of each sample in an epoch, all in one batch and from one decode (DeiT's repeated "
        "augmentation, whose epochs are this many times shorter)",
    )
    warmup_epochs: float = Field(0, ge=0, description="epochs of linear warm-up, inside epochs")
    global_batch_size: int = Field(ge=1, description="views an optimiser step, over all ranks")
    micro_batch_size: int | None = Field(
        None,
        ge=1,
        description="views a forward pass; null: a process's whole share. Batch norm and stochastic depth follow "
        "from it, so that with a number here any number of processes trains alike",
    )
    lanes: int = Field(64, ge=1, description="slices of an epoch's order; a multiple of the number of ranks")
    window: int = Field(4096, ge=1, description="samples that are permuted together within a lane")
    seed: int = Field(0, ge=0, description="seed of order, initial weights and stochastic depth")

    @model_validator(mode="after")
    def _warmup_fits(self) -> ScheduleConfig:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be smaller than epochs ({self.epochs})")
        return self


class TrainConfig(Section):
    """What is trained, and what happens around the steps."""

    trainable: Literal["all", "head"] = Field(
        "all",
        description="head: the classification head alone (both, where there are two), all else frozen and in "
        "evaluation mode, as for a linear probe",
    )
    freeze_bn_stats: bool = Field(False, description="batch norm in evaluation mode while training")
    on_non_finite: Literal["stop", "skip"] = Field(
        "stop",
        description="stop: a NaN or infinite loss or gradient stops the run; skip: such steps are left out and "
        "counted, at the cost of waiting for the device at every step",
    )
    ema_decay: float | None = Field(None, gt=0, lt=1, description="decay of an averaged copy of the weights")
    log_every: int = Field(50, ge=1, description="optimiser steps between log lines")
    checkpoint_every: int = Field(1000, ge=1, description="optimiser steps between checkpoints")
    keep_checkpoints: int = Field(2, ge=1, description="newest checkpoints that are kept")
    evaluate_every: int = Field(1, ge=1, description="epochs between evaluations, where eval is given")


Precision = Literal["auto", "float32", "bfloat16"]


class RuntimeConfig(Section):
    """The machine: nothing here changes the order or the views; precision is part of a store's manifest."""

    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: CUDA where there is one")
    precision: Precision = Field("auto", description="autocast: bfloat16 on CUDA, float32 on CPU by default")
    workers: int = Field(2, ge=0, description="data loading processes a rank; 0: in the main process")
    prefetch: int = Field(4, ge=1, description="batches that a worker prepares ahead")
    data_timeout: float = Field(
        600, gt=0, description="seconds without a batch, or an answer of the disk, after which the run stops"
    )
    threads: int | None = Field(
        None, ge=1, description="computing threads a rank on the CPU; null: torch's choice. Leave cores to the workers"
    )
    compile: bool = Field(False, description="torch.compile the network")
    channels_last: bool = Field(True, description="memory format of convolutions on CUDA")
    fsync: bool = Field(False, description="flush blocks and checkpoints to the disk: safe against power loss")
