"""What a view is, as data: the augmentation policy of training and the fixed crop of evaluation."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tinyvit_kd.config.base import Section

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Interpolation = Literal["bicubic", "bilinear"]


class ViewSpec(Section):
    """The augmentation policy; with the image bytes and a seed it determines every byte of a view."""

    size: int = Field(224, ge=1, le=4096, description="side of the square view, pixels")
    scale: tuple[float, float] = Field((0.08, 1.0), description="range of the crop's share of the image area")
    ratio: tuple[float, float] = Field((3 / 4, 4 / 3), description="range of the crop's width over height")
    interpolation: Interpolation = Field("bicubic", description="filter of resizing and of affine operations")
    hflip: float = Field(0.5, ge=0, le=1, description="probability of a horizontal flip")
    auto_augment: str | None = Field(
        "rand-m9-mstd0.5-inc1", description="RandAugment policy in timm's grammar, or null for none"
    )
    color_jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="brightness, contrast and saturation jitter, only where auto_augment is null",
    )
    erase_prob: float = Field(0.25, ge=0, le=1, description="probability of random erasing")
    erase_mode: Literal["pixel", "rand", "const"] = Field(
        "pixel", description="fill of erased boxes: noise a pixel, one colour a box, or the mean colour"
    )
    erase_count: int = Field(1, ge=1, le=16, description="most erased boxes a view")
    mixup: float = Field(0.0, ge=0, le=32, description="alpha of Mixup's Beta distribution; 0: no Mixup")
    cutmix: float = Field(0.0, ge=0, le=32, description="alpha of CutMix's Beta distribution; 0: no CutMix")
    mix_prob: float = Field(1.0, ge=0, le=1, description="probability that a pair is mixed at all")
    mix_switch_prob: float = Field(0.5, ge=0, le=1, description="probability of CutMix where both are on")
    mean: tuple[float, float, float] = Field(IMAGENET_MEAN, description="fill colour and centre of the noise, 0..1")
    std: tuple[float, float, float] = Field(IMAGENET_STD, description="spread of the erasing noise, 0..1")
    max_pixels: int = Field(89_478_485, ge=1, description="larger images are holes, pixels (Pillow's own limit)")

    @property
    def mixes(self) -> bool:
        """Whether views are mixed in pairs."""
        return self.mix_prob > 0 and (self.mixup > 0 or self.cutmix > 0)

    @model_validator(mode="after")
    def _ranges(self) -> ViewSpec:
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale must satisfy 0 < low <= high <= 1, not {list(self.scale)}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must satisfy 0 < low <= high, not {list(self.ratio)}")
        if not (all(0 <= part <= 1 for part in self.mean) and all(0 <= part <= 1 for part in self.std)):
            raise ValueError("mean and std must lie in 0..1: they are shares of full brightness")
        if self.color_jitter and self.auto_augment:
            raise ValueError("color_jitter needs auto_augment: null (timm applies it only where RandAugment is off)")
        return self


class EvalViewSpec(Section):
    """The one fixed view of a sample that evaluation uses."""

    size: int = Field(224, ge=1, le=4096, description="side of the square view, pixels")
    mode: Literal["center", "squash"] = Field(
        "center",
        description="center: resize the shorter side, crop the middle; squash: resize the whole image",
    )
    crop_pct: float = Field(0.875, gt=0, le=1, description="view side over the resized shorter side (224/256)")
    interpolation: Interpolation = Field("bicubic", description="filter of resizing")
    max_pixels: int = Field(89_478_485, ge=1, description="larger images are holes, pixels")
