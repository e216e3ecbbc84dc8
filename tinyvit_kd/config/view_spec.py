"""What a view is, as data: the augmentation policy of training and the fixed crop of evaluation."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer, model_validator

from tinyvit_kd.config.base import Section, in_effect, unit

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
Interpolation = Literal["bicubic", "bilinear"]
EvalMode = Literal["center", "squash"]
EVAL_MODES = "center: resize the shorter side; squash: resize the whole image to a square"
_BESIDE_TRANSFORM = frozenset(
    {"size", "transform", "mixup", "cutmix", "mix_prob", "mix_switch_prob", "max_pixels"}
)  # fields that have an effect if a transform makes the views


class TransformConfig(Section):
    """Any other transform from a PIL image to a uint8 view, by its dotted name or as the result of a call.

    It is replayed by seeding the default generators of Python, NumPy and torch, and its own if it says how.

    Inside ``args`` and ``kwargs``, at any depth, a mapping with ``call`` stands for the result of that call, and a
    mapping with only ``name`` stands for the object of that name. So pipelines, types and enums can be written in YAML:
    ``{name: torch.uint8}``, ``{call: torchvision.transforms.v2.RandomResizedCrop, kwargs: {size: 224}}``.
    """

    alternatives: ClassVar[tuple[str, ...]] = ("call", "name")

    call: str | None = Field(
        None,
        description="dotted name of a class or function that returns the transform, for example "
        "timm.data.create_transform. Modules in the current directory are found too. It is imported and called: this "
        "can run any code",
    )
    args: list[JsonValue] = Field(default_factory=list, description="positional arguments of call")
    kwargs: dict[str, JsonValue] = Field(default_factory=dict, description="keyword arguments of call")
    name: str | None = Field(
        None,
        description="dotted name of the transform itself, which is imported and called: this can run any code; leave "
        "out call, args and kwargs with it",
    )
    seed_with: str | None = Field(
        None,
        description="method of the transform that seeds its own generators, for example generator.manual_seed for a "
        "torch generator in its attribute generator. It is called before every view, with a number from 0 to "
        "4294967295. null: set_random_seed, if the transform has it",
    )

    @model_validator(mode="after")
    def _one_of(self) -> TransformConfig:
        if (self.call is None) == (self.name is None):
            raise ValueError(
                "give exactly one of call (it is called with args and kwargs) and name (it is taken as it is)"
            )
        if self.name is not None and (self.args or self.kwargs):
            raise ValueError(
                "args and kwargs belong to call; name is the transform itself and is not called to make it"
            )
        return self

    @model_serializer(mode="wrap")
    def _in_use(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # So that manifests and hashes of views from before there was seed_with stay valid.
        return in_effect(self, handler(self), "seed_with")

    def __str__(self) -> str:
        """Its dotted name."""
        return self.call or self.name or ""


class ViewSpec(Section):
    """The augmentation policy. Together with the image bytes and a seed, it determines every byte of a view."""

    size: int = Field(224, ge=1, le=4096, description="side of the square view", json_schema_extra=unit("pixels"))
    scale: tuple[float, float] = Field(
        (0.08, 1.0),
        description="smallest and largest area of the random crop",
        json_schema_extra=unit("fraction of the image area"),
    )
    ratio: tuple[float, float] = Field(
        (3 / 4, 4 / 3), description="smallest and largest aspect ratio of the random crop, width / height"
    )
    interpolation: Interpolation = Field("bicubic", description="filter for resizing and affine operations")
    hflip: float = Field(
        0.5, ge=0, le=1, description="probability of a horizontal flip", json_schema_extra=unit("probability")
    )
    auto_augment: str | None = Field(
        "rand-m9-mstd0.5-inc1", description="RandAugment policy in timm's notation; null: no RandAugment"
    )
    color_jitter: float = Field(
        0.0,
        ge=0,
        le=1,
        description="strength of brightness, contrast and saturation jitter; needs auto_augment: null",
        json_schema_extra=unit("fraction"),
    )
    erase_prob: float = Field(
        0.25, ge=0, le=1, description="probability of random erasing", json_schema_extra=unit("probability")
    )
    erase_mode: Literal["pixel", "rand", "const"] = Field(
        "pixel",
        description="fill of erased boxes; pixel: noise in every pixel; rand: one random colour per box; const: the "
        "mean colour",
    )
    erase_count: int = Field(
        1, ge=1, le=16, description="largest number of erased boxes", json_schema_extra=unit("boxes per view")
    )
    mixup: float = Field(0.0, ge=0, le=32, description="alpha of Mixup's Beta distribution; 0: no Mixup")
    cutmix: float = Field(0.0, ge=0, le=32, description="alpha of CutMix's Beta distribution; 0: no CutMix")
    mix_prob: float = Field(
        1.0,
        ge=0,
        le=1,
        description="probability that a pair of views is mixed, if Mixup or CutMix is on",
        json_schema_extra=unit("probability"),
    )
    mix_switch_prob: float = Field(
        0.5,
        ge=0,
        le=1,
        description="probability of CutMix instead of Mixup, if both are on",
        json_schema_extra=unit("probability"),
    )
    mean: tuple[float, float, float] = Field(
        IMAGENET_MEAN,
        description="fill colour, and mean of the erasing noise, for red, green and blue",
        json_schema_extra=unit("brightness, 0 to 1"),
    )
    std: tuple[float, float, float] = Field(
        IMAGENET_STD,
        description="standard deviation of the erasing noise, for red, green and blue",
        json_schema_extra=unit("brightness, 0 to 1"),
    )
    max_pixels: int = Field(
        89_478_485,
        ge=1,
        description="largest image that is decoded (default: Pillow's own limit); larger images are holes",
        json_schema_extra=unit("pixels"),
    )

    transform: TransformConfig | None = Field(
        None,
        description="any other transform instead of crop, flip, RandAugment, jitter and erasing: leave out their "
        "fields with it. It must return uint8 views of size x size pixels, not normalised",
    )

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
            raise ValueError("mean and std must be between 0 and 1, where 1 is full brightness")
        if self.color_jitter and self.auto_augment:
            raise ValueError("color_jitter needs auto_augment: null (timm applies it only where RandAugment is off)")
        return self

    @model_validator(mode="after")
    def _transform_alone(self) -> ViewSpec:
        idle = [name for name in ViewSpec.model_fields if name in self.model_fields_set - _BESIDE_TRANSFORM]
        if self.transform is not None and idle:
            raise ValueError(
                f"{', '.join(idle)} would have no effect, because transform makes the views: leave them out"
            )
        return self

    @model_serializer(mode="wrap")
    def _in_effect(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Manifests, hashes and checkpoints name what has an effect; those made before there were transforms stay valid.
        fields: dict[str, Any] = handler(self)
        if self.transform is not None:
            return {name: value for name, value in fields.items() if name in _BESIDE_TRANSFORM}
        return {name: value for name, value in fields.items() if name != "transform"}


class EvalViewSpec(Section):
    """The one fixed view of each sample that evaluation uses."""

    size: int = Field(224, ge=1, le=4096, description="side of the square view", json_schema_extra=unit("pixels"))
    mode: EvalMode = Field("center", description=f"{EVAL_MODES}. Then crop the centre")
    crop_pct: float | None = Field(
        None,
        gt=0,
        le=1,
        description="side of the view divided by the side after resizing; null: by mode. center: 0.875 (224 / 256); "
        "squash: 1, so that the whole image is seen",
        json_schema_extra=unit("fraction"),
    )
    interpolation: Interpolation = Field("bicubic", description="filter for resizing")
    max_pixels: int = Field(
        89_478_485,
        ge=1,
        description="largest image that is decoded (default: Pillow's own limit); larger images are holes",
        json_schema_extra=unit("pixels"),
    )

    @property
    def crop_fraction(self) -> float:
        """``crop_pct``, with its default."""
        if self.crop_pct is not None:
            return self.crop_pct
        return 1.0 if self.mode == "squash" else 0.875

    def __str__(self) -> str:
        """For people: ``384 pixels, squash, crop_pct 1, bicubic``."""
        return f"{self.size} pixels, {self.mode}, crop_pct {self.crop_fraction:g}, {self.interpolation}"


class ModelViewSpec(Section):
    """The fixed view in which a model file is scored. What is left out is as the file says.

    Files of runs without an evaluation say nothing, nor do those written before files could: center, 0.875, bicubic.
    """

    size: int | None = Field(
        None, ge=1, le=4096, description="side of the square view; null: the model's", json_schema_extra=unit("pixels")
    )
    mode: EvalMode | None = Field(None, description=f"{EVAL_MODES}. Then crop the centre. null: the model's")
    crop_pct: float | None = Field(
        None,
        gt=0,
        le=1,
        description="side of the view divided by the side after resizing; null: the model's or, if mode is given, "
        "by mode. center: 0.875 (224 / 256); squash: 1, so that the whole image is seen",
        json_schema_extra=unit("fraction"),
    )
    interpolation: Interpolation | None = Field(None, description="filter for resizing; null: the model's")
    max_pixels: int = Field(
        89_478_485,
        ge=1,
        description="largest image that is decoded (default: Pillow's own limit); larger images are holes",
        json_schema_extra=unit("pixels"),
    )

    def over(self, model: EvalViewSpec) -> EvalViewSpec:
        """The view that a recipe asks for, given that of the model's file."""
        asked = self.model_dump(exclude_none=True)
        if self.mode is not None:
            asked.setdefault("crop_pct", None)
        return EvalViewSpec.model_validate(model.model_dump() | asked)
