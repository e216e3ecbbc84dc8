"""One recipe per stage: everything that its YAML file may contain."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from tinyvit_kd.config.base import Location, Section, unit
from tinyvit_kd.config.contraction import LimitsConfig, ProxyConfig, SearchConfig, SpaceConfig, ThroughputConfig
from tinyvit_kd.config.data import (
    LabelledShardsConfig,
    MaybeLabelledShardsConfig,
    StoreConfig,
    StoredTargetsConfig,
)
from tinyvit_kd.config.logging import LoggingConfig
from tinyvit_kd.config.models import ModelSource, TeacherConfig
from tinyvit_kd.config.optim import OptimConfig
from tinyvit_kd.config.student import StudentConfig
from tinyvit_kd.config.training import (
    DistillLossConfig,
    PlainLossConfig,
    RuntimeConfig,
    ScheduleConfig,
    TrainConfig,
)
from tinyvit_kd.config.view_spec import IMAGENET_MEAN, IMAGENET_STD, EvalViewSpec, ModelViewSpec, ViewSpec

Positive = Annotated[float, Field(gt=0)]
OnBadImage = Literal["hole", "error"]
BlockOrder = Literal["shards", "views"]
STAGE = "the stage that this recipe is for"
ON_BAD_IMAGE = "hole: an unreadable image gets weight zero and is counted; error: the first one stops the run"
MACHINE = "settings of the machine"


class ScoredShardsConfig(Section):
    """Labelled shards on which a model is scored."""

    shards: LabelledShardsConfig = Field(description="labelled shards to score the model on")
    batch_size: int = Field(
        128, ge=1, description="samples in one forward pass", json_schema_extra=unit("samples per rank")
    )


class EvalConfig(ScoredShardsConfig):
    """Labelled shards on which a model is scored. The model's file says in which view."""

    views: EvalViewSpec = Field(default_factory=EvalViewSpec, description="the fixed view of each sample")


class NormalizeConfig(Section):
    """The student's own normalisation, applied on the device."""

    mean: tuple[float, float, float] = Field(
        IMAGENET_MEAN,
        description="mean of the input, for red, green and blue",
        json_schema_extra=unit("brightness, 0 to 1"),
    )
    std: tuple[Positive, Positive, Positive] = Field(
        IMAGENET_STD,
        description="standard deviation of the input, for red, green and blue",
        json_schema_extra=unit("brightness, 0 to 1"),
    )


class DumpConfig(Section):
    """Stage one, ``dump-logits``: run a teacher over augmented views and store its top-k probabilities."""

    alternatives: ClassVar[tuple[str, ...]] = ("views", "views_from")

    stage: Literal["dump-logits"] = Field(description=STAGE)
    shards: MaybeLabelledShardsConfig = Field(description="images to make views of")
    views: ViewSpec = Field(default_factory=ViewSpec, description="augmentation policy of the views")
    views_from: Location | None = Field(
        None,
        description="store of another teacher, to take its views and seed; leave out views and store.seed with it",
    )
    teacher: TeacherConfig = Field(description="network that is asked for probabilities")
    store: StoreConfig = Field(description="where the probabilities go, and in which form")
    batch_size: int = Field(
        128, ge=1, description="views in one forward pass of the teacher", json_schema_extra=unit("views per rank")
    )
    views_per_decode: int = Field(
        4,
        ge=1,
        description="views rendered each time an image is decoded",
        json_schema_extra=unit("views per decode"),
    )
    block_order: BlockOrder = Field(
        "shards",
        description="in which order blocks are made; shards: all views of a shard before the next shard; views: the "
        "first views_per_decode views of all shards before the next views, for a pretrain with store.follow. Blocks "
        "are the same, but views reads the shards once for each group of views, and shards mostly once",
    )
    on_bad_image: OnBadImage = Field("hole", description=ON_BAD_IMAGE)
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig, description=MACHINE)

    @model_validator(mode="after")
    def _one_image_fits(self) -> DumpConfig:
        if self.batch_size < self.views_per_decode:
            raise ValueError(
                f"batch_size ({self.batch_size}) must not be smaller than views_per_decode ({self.views_per_decode})"
            )
        return self


class TrainingConfig(Section):
    """What stages two and three share."""

    output: Location = Field(description="run folder for checkpoints, model file and metrics: a path, or a URL")
    student: StudentConfig = Field(description="network to train, and its first weights")
    normalize: NormalizeConfig = Field(
        default_factory=NormalizeConfig, description="normalisation of the student's input"
    )
    optim: OptimConfig = Field(description="optimiser and learning rates")
    schedule: ScheduleConfig = Field(description="length of training, batch size and order of samples")
    train: TrainConfig = Field(
        default_factory=TrainConfig, description="what is trained, and when to log, save and evaluate"
    )
    eval: EvalConfig | None = Field(None, description="evaluation during training; null: no evaluation")
    logging: LoggingConfig = Field(
        default_factory=LoggingConfig, description="where the figures go, besides metrics.jsonl in the run folder"
    )
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig, description=MACHINE)

    @field_validator("runtime")
    @classmethod
    def _gradients_fit(cls, runtime: RuntimeConfig) -> RuntimeConfig:
        if runtime.precision == "float16":
            raise ValueError(
                "precision float16 is for teachers and evaluation: small gradients would become zero in it. Leave "
                "precision out: training then has bfloat16 on a GPU, and its evaluations have float16"
            )
        return runtime

    @model_validator(mode="after")
    def _sizes_come(self) -> Self:
        last = max(self.student.sizes_by_epoch(0))
        if last >= self.schedule.epochs:
            raise ValueError(
                f"student.image_size has a size from epoch {last} on, counted from 0, and schedule.epochs is "
                f"{self.schedule.epochs}: the run would end before the student has seen images of that size"
            )
        return self


class StoredTrainingConfig(TrainingConfig):
    """What trainings from a store share. The store sets the views, their size and the classes."""

    shards: LabelledShardsConfig = Field(description="the shards that the store was dumped from")
    store: StoredTargetsConfig = Field(description="the teacher's probabilities")
    loss: DistillLossConfig = Field(default_factory=DistillLossConfig, description="distillation loss")


class PretrainConfig(StoredTrainingConfig):
    """Stage two, ``pretrain``: train a student from a store, which sets the views, their size and the classes.

    Labels are used only if ``loss.alpha`` is below 1.
    """

    stage: Literal["pretrain"] = Field(description=STAGE)


class ContractConfig(StoredTrainingConfig):
    """``contract``: find the best student within limits, from a larger one, by brief trainings from a store.

    The student is the base that is contracted. What is said of its training is that of the winners, for which recipes
    are written.
    """

    stage: Literal["contract"] = Field(description=STAGE)
    output: Location = Field(
        description="folder of the search: a path, on a disk that all machines of the search see; not a URL. Winners' "
        "recipes have outputs beside it"
    )
    space: SpaceConfig = Field(default_factory=SpaceConfig, description="shapes that may be reached")
    limits: LimitsConfig = Field(description="what a student must keep to")
    search: SearchConfig = Field(default_factory=SearchConfig, description="rounds of the search")
    throughput: ThroughputConfig = Field(default_factory=ThroughputConfig, description="how candidates are timed")
    proxy: ProxyConfig = Field(default_factory=ProxyConfig, description="how candidates are trained and scored")

    @model_validator(mode="after")
    def _candidates_can_be_compared(self) -> ContractConfig:
        if self.store.follow:
            raise ValueError("store.follow is for pretrain: a search compares candidates by what is all there")
        if self.student.image_size is not None:
            raise ValueError(
                "candidates are compared at the size of the store's views: leave out student.image_size, and set it in "
                "the recipes of the winners"
            )
        if self.train.trainable != "all" or self.train.freeze_bn_stats:
            raise ValueError(
                "candidates are trained whole: leave out train.trainable and train.freeze_bn_stats, since a part of a "
                "network, and statistics of what it was a part of, are not that network's"
            )
        return self

    def pretrain_tree(self, student: StudentConfig, output: str) -> dict[str, Any]:
        """The recipe that trains a student as this one says, as plain values."""
        own = set(PretrainConfig.model_fields)
        shared = self.model_dump(mode="json", include=own, exclude_unset=True)
        return shared | {
            "stage": "pretrain",
            "output": output,
            "student": student.model_dump(mode="json", exclude_unset=True),
        }


class FinetuneConfig(TrainingConfig):
    """Stage three, ``finetune``: train on labels, from another model or from scratch.

    Training starts from scratch if ``student.init_from`` is not given.
    """

    stage: Literal["finetune"] = Field(description=STAGE)
    shards: LabelledShardsConfig = Field(description="labelled shards to train on")
    views: ViewSpec = Field(default_factory=ViewSpec, description="augmentation policy of the views")
    loss: PlainLossConfig = Field(default_factory=PlainLossConfig, description="classification loss")
    num_classes: int | None = Field(
        None,
        ge=2,
        description="number of classes; null: the length of the class list",
        json_schema_extra=unit("classes"),
    )
    on_bad_image: OnBadImage = Field("hole", description=ON_BAD_IMAGE)


class EvaluateConfig(ModelSource, ScoredShardsConfig):
    """``evaluate``: score one model on labelled shards: a student, a teacher, or anybody's."""

    stage: Literal["evaluate"] = Field(description=STAGE)
    views: ModelViewSpec = Field(default_factory=ModelViewSpec, description="the fixed view of each sample")
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig, description=MACHINE)


STAGE_CONFIGS: dict[str, type[Section]] = {
    "dump-logits": DumpConfig,
    "pretrain": PretrainConfig,
    "finetune": FinetuneConfig,
    "evaluate": EvaluateConfig,
    "contract": ContractConfig,
}
