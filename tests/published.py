"""The numbers of published recipes, and which shipped recipe must have which. Tests take them only from here.

Sources: TinyViT, arXiv 2207.10666, section 4.1 and appendix, with TinyViT/configs and config.py of microsoft/Cream;
DeiT, arXiv 2012.12877, tables 6, 7 and 9, and at 384 pixels the command of facebookresearch/deit.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tests.conftest import REPOSITORY
from tinyvit_kd.config.load import load_recipe, read_yaml
from tinyvit_kd.config.recipes import STAGE_CONFIGS, TrainingConfig

CONFIGS = REPOSITORY / "configs"
RECIPES = sorted(CONFIGS.rglob("*.yaml"))

# Common to all of these papers.
ADAMW = ((0.9, 0.999), 1e-8)  # betas, epsilon
LR_BATCH = 512  # which rates are for
RANDAUGMENT = "rand-m9-mstd0.5-inc1"
ERASING = (0.25, "pixel")  # probability, mode
MIXING = (0.8, 1.0)  # α of Mixup, of CutMix
LABEL_SMOOTHING = 0.1


class Published(NamedTuple):
    """A column of a paper's table of hyper-parameters; rates are for a batch of 512."""

    epochs: int
    warmup_epochs: float
    batch: int
    base_lr: float
    min_lr: float
    warmup_lr: float
    weight_decay: float
    layer_decay: float = 1.0
    freeze_bn_stats: bool = False

    @classmethod
    def of(cls, recipe: TrainingConfig) -> Published:
        """The same numbers of a recipe."""
        optim = recipe.optim
        schedule = recipe.schedule
        return cls(
            schedule.epochs,
            schedule.warmup_epochs,
            schedule.global_batch_size,
            optim.base_lr,
            optim.min_lr,
            optim.warmup_lr,
            optim.weight_decay,
            optim.layer_decay,
            recipe.train.freeze_bn_stats,
        )


DISTILLED_22K = Published(90, 5, 4096, 2.5e-4, 5e-6, 5e-7, 0.01)
FINETUNED_1K = Published(30, 5, 1024, 2.5e-4, 1e-5, 5e-7, 1e-8, layer_decay=0.8, freeze_bn_stats=True)
SCRATCH_1K = Published(300, 20, 1024, 5e-4, 5e-6, 5e-7, 0.05)
HIGHER_RESOLUTION = Published(30, 5, 1024, 2e-5, 2e-7, 2e-8, 1e-8, freeze_bn_stats=True)


class TinyViT(NamedTuple):
    """The numbers of one TinyViT recipe."""

    numbers: Published
    drop_path_rate: float
    mixing: tuple[float, float] | None = None  # stage three only; stage two takes its views from the store


NO_MIXING = (0.0, 0.0)
TINY_VIT = {
    **{
        f"pretrain/tiny_vit_{size}_22k": TinyViT(DISTILLED_22K, drop)
        for size, drop in (("5m", 0.0), ("11m", 0.0), ("21m", 0.1))
    },
    # Not published: fewer stored views than epochs.
    "pretrain/tiny_vit_21m_22k_v30": TinyViT(DISTILLED_22K, 0.1),
    "pretrain/tiny_vit_5m_1k_distill_v100": TinyViT(SCRATCH_1K, 0.0),
    "contraction/tiny_vit_21m_to_5m_22k": TinyViT(DISTILLED_22K, 0.0),  # the training of its winners
    **{
        f"finetune/tiny_vit_{size}_22kto1k": TinyViT(FINETUNED_1K, drop, NO_MIXING)
        for size, drop in (("5m", 0.0), ("11m", 0.0), ("21m", 0.1))
    },
    **{
        f"scratch/tiny_vit_{size}_1k": TinyViT(SCRATCH_1K, drop, MIXING)
        for size, drop in (("5m", 0.0), ("11m", 0.1), ("21m", 0.2))
    },
    # Not published: the numbers from scratch, without stochastic depth.
    **{f"pretrain/tiny_vit_{size}_1k_distill": TinyViT(SCRATCH_1K, 0.0) for size in ("5m", "11m", "21m")},
    **{f"finetune/tiny_vit_21m_{size}": TinyViT(HIGHER_RESOLUTION, 0.1, NO_MIXING) for size in (384, 512)},
}
TINY_VIT_CLIP_GRAD = 5.0


DISTILLED_22K_MICRO_BATCH = 128  # 32 GPUs share a batch


class Deit(NamedTuple):
    """The numbers of one DeiT recipe. An epoch is one view of each image; only the peak rate is for a batch of 512."""

    epochs: int
    warmup_epochs: int
    batch: int
    peak_lr: float
    first_lr: float
    last_lr: float
    weight_decay: float
    drop_path_rate: float

    @property
    def numbers(self) -> Published:
        """The same with all rates for a batch of 512."""
        last, first = (rate * LR_BATCH / self.batch for rate in (self.last_lr, self.first_lr))
        return Published(self.epochs, self.warmup_epochs, self.batch, self.peak_lr, last, first, self.weight_decay)


DEIT_224 = Deit(300, 5, 1024, 5e-4, 1e-6, 1e-5, 0.05, 0.1)
DEIT_384 = Deit(30, 5, 512, 5e-6, 1e-6, 5e-6, 1e-8, 0.0)  # it is finetuned in evaluation mode, without drop path
DEIT = {
    **{f"pretrain/deit_{size}_distilled_1k": DEIT_224 for size in ("tiny", "small", "base")},
    **{f"pretrain/deit_{size}_distilled_384": DEIT_384 for size in ("tiny", "small", "base")},
}
DEIT_VIEWS_PER_SAMPLE = 3  # repeated augmentation
DEIT_EMA_DECAY = 0.99996


class Transfer(NamedTuple):
    """The numbers of a data set that DeiT is transferred to."""

    classes: int
    epochs: int  # views per image
    peak_lr: float  # with AdamW


TRANSFER = {
    "finetune/transfer/cifar10": Transfer(10, 999, 7.5e-6),
    "finetune/transfer/cifar100": Transfer(100, 999, 5e-6),
    "finetune/transfer/flowers102": Transfer(102, 999, 7.5e-6),
    "finetune/transfer/stanford_cars": Transfer(196, 999, 7.5e-6),
    "finetune/transfer/inaturalist18": Transfer(8142, 360, 7.5e-5),
    "finetune/transfer/inaturalist19": Transfer(1010, 360, 7.5e-5),
}
TRANSFER_BATCH, TRANSFER_WEIGHT_DECAY = 768, 0.05


@cache
def load(recipe: str | Path) -> Any:
    """Load a shipped recipe, given its file or its path in ``configs`` without the suffix."""
    path = CONFIGS / f"{recipe}.yaml" if isinstance(recipe, str) else recipe
    return load_recipe(STAGE_CONFIGS[read_yaml(path)["stage"]], path)
