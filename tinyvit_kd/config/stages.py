"""One recipe a stage: the whole of what its YAML file may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from tinyvit_kd.config.base import Section
from tinyvit_kd.config.data import LabelledShardsConfig, ShardsConfig, StoreConfig, StoredTargetsConfig
from tinyvit_kd.config.models import StudentConfig, TeacherConfig
from tinyvit_kd.config.training import (
    DistillLossConfig,
    OptimConfig,
    PlainLossConfig,
    RuntimeConfig,
    ScheduleConfig,
    TrainConfig,
)
from tinyvit_kd.config.views import IMAGENET_MEAN, IMAGENET_STD, EvalViewSpec, ViewSpec

Positive = Annotated[float, Field(gt=0)]
OnBadImage = Literal["hole", "error"]
ON_BAD_IMAGE = "hole: unreadable images get no weight and are counted; error: stop at the first"


class EvalConfig(Section):
    """Labelled shards on which a model is scored."""

    shards: LabelledShardsConfig
    views: EvalViewSpec = Field(default_factory=EvalViewSpec)
    batch_size: int = Field(128, ge=1, description="samples a forward pass and rank")


class NormalizeConfig(Section):
    """The student's own normalisation, applied on the device."""

    mean: tuple[float, float, float] = Field(IMAGENET_MEAN, description="mean of the input, 0..1")
    std: tuple[Positive, Positive, Positive] = Field(IMAGENET_STD, description="deviation of the input, 0..1")


class DumpConfig(Section):
    """Stage one, ``dump-logits``."""

    stage: Literal["dump-logits"]
    shards: ShardsConfig
    views: ViewSpec = Field(default_factory=ViewSpec)
    views_from: Path | None = Field(
        None, description="store of another teacher, whose views and seed are taken; views and store.seed are left out"
    )
    teacher: TeacherConfig
    store: StoreConfig
    batch_size: int = Field(128, ge=1, description="views a forward pass of the teacher, a rank")
    views_per_decode: int = Field(4, ge=1, description="views rendered from one decoded image")
    on_bad_image: OnBadImage = Field("hole", description=ON_BAD_IMAGE)
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)

    @model_validator(mode="after")
    def _one_image_fits(self) -> DumpConfig:
        if self.batch_size < self.views_per_decode:
            raise ValueError(
                f"batch_size ({self.batch_size}) must not be smaller than views_per_decode ({self.views_per_decode})"
            )
        return self


class TrainingConfig(Section):
    """What stages two and three share."""

    output: Path = Field(description="folder of the run: checkpoints, model, metrics")
    student: StudentConfig
    normalize: NormalizeConfig = Field(default_factory=NormalizeConfig)
    optim: OptimConfig
    schedule: ScheduleConfig
    train: TrainConfig = Field(default_factory=TrainConfig)
    eval: EvalConfig | None = Field(None, description="labelled shards to score on; null: no evaluation")
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)


class PretrainConfig(TrainingConfig):
    """Stage two, ``pretrain``: views, size and classes are the store's; labels matter with ``loss.alpha`` below 1."""

    stage: Literal["pretrain"]
    shards: LabelledShardsConfig
    store: StoredTargetsConfig
    loss: DistillLossConfig = Field(default_factory=DistillLossConfig)


class FinetuneConfig(TrainingConfig):
    """Stage three, ``finetune``; without ``student.init_from`` it trains from scratch."""

    stage: Literal["finetune"]
    shards: LabelledShardsConfig
    views: ViewSpec = Field(default_factory=ViewSpec)
    loss: PlainLossConfig = Field(default_factory=PlainLossConfig)
    num_classes: int | None = Field(None, ge=2, description="classes; null: the length of the class list")
    on_bad_image: OnBadImage = Field("hole", description=ON_BAD_IMAGE)


class EvaluateConfig(EvalConfig):
    """``evaluate``: scores one model file."""

    stage: Literal["evaluate"]
    model: Path = Field(description="model file or run folder")
    class_list: str | None = Field(None, description="class list of the model, where its file does not name one")
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)


STAGE_CONFIGS: dict[str, type[Section]] = {
    "dump-logits": DumpConfig,
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
}
