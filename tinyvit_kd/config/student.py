"""The student: which network, its first weights, and the sizes of its input in training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

from tinyvit_kd.config.base import Location, in_effect, unit
from tinyvit_kd.config.model_spec import ModelSpec

_Side = Annotated[int, Field(ge=1)]
_Epoch = Annotated[int, Field(ge=0)]
_FEWEST = 2  # sizes of an input that grows


class StudentConfig(ModelSpec):
    """The student of stages two and three: a timm name, TinyViT widths, a function, or the file to start from."""

    init_from: Location | None = Field(
        None,
        description="first weights, at a path or URL: a run folder, a folder that timm or export wrote, a model file, "
        "or a checkpoint of any training code; null: random weights. If name, tiny_vit and call are left out, it also "
        "names the network",
    )
    pretrained: bool = Field(
        False, description="whether to fetch timm's weights for name from the hub and start from them, not init_from"
    )
    class_list: str | None = Field(
        None, description="class list of the head of the first weights, if their file does not name one"
    )
    head: Literal["auto", "fresh"] = Field(
        "auto",
        description="auto: keep the head of the first weights, or remap it by WordNet id where both class lists are "
        "known; fresh: start from a zero head",
    )
    grad_checkpointing: bool = Field(
        False, description="whether to recompute activations in the backward pass, which saves memory and costs time"
    )
    image_size: _Side | dict[_Epoch, _Side] | None = Field(
        None,
        description="side of the input in training, to which views are resized on the device; or sides by the epoch, "
        "counted from 0, from which on they hold, for example {0: 128, 60: 224}, ascending, of which the last is that "
        "of the evaluation and of the model; null: that of the views",
        json_schema_extra=unit("pixels"),
    )

    @property
    def origin(self) -> str | None:
        """Where the first weights come from, for people; None if they are random."""
        if self.pretrained:
            return f"{self.name} of timm's hub"
        return self.init_from

    def sizes_by_epoch(self, of_views: int) -> dict[int, int]:
        """Side of the input, pixels, by the first epoch that has it, ascending from epoch 0.

        Args:
            of_views: side of the views, pixels.
        """
        size = of_views if self.image_size is None else self.image_size
        return {0: size} if isinstance(size, int) else dict(size)

    def final_size(self, of_views: int) -> int:
        """Side of the trained model's input, pixels, and the largest one.

        Args:
            of_views: side of the views, pixels.
        """
        return max(self.sizes_by_epoch(of_views).values())

    @field_validator("image_size", mode="before")
    @classmethod
    def _are_sizes(cls, value: Any) -> Any:
        # One sentence in place of one for each kind of value.
        by_epoch = value if isinstance(value, dict) else {0: value}
        sides = [each for each in by_epoch.values() if type(each) in (int, float) and each >= 1 and each % 1 == 0]
        if value is not None and (len(sides) < len(by_epoch) or not all(str(each).isdecimal() for each in by_epoch)):
            raise ValueError("give one size in pixels, or sizes by epoch: 160, or {0: 128, 60: 224}")
        return value

    @model_validator(mode="after")
    def _sizes_grow(self) -> StudentConfig:
        if isinstance(self.image_size, dict):
            epochs, sides = [*self.image_size], [*self.image_size.values()]
            if epochs[:1] != [0] or len(sides) < _FEWEST:
                raise ValueError(
                    "image_size by epoch begins with epoch 0, and has two sizes or more: {0: 128, 60: 224}"
                )
            if epochs != sorted(set(epochs)) or sides != sorted(set(sides)):
                raise ValueError("image_size by epoch grows: give epochs and sizes in ascending order")
        return self

    @model_validator(mode="after")
    def _one_of(self) -> StudentConfig:
        ways = f"{', '.join(self.alternatives[:-1])} or {self.alternatives[-1]}"
        if len(self.given) > 1:
            raise ValueError(f"give {' or '.join(self.given)}, not both")
        if self.pretrained and self.init_from is not None:
            raise ValueError("give init_from or pretrained: true, not both")
        if self.pretrained and self.name is None:
            raise ValueError("pretrained: true needs name, a timm model name")
        if not self.given and self.init_from is None:
            raise ValueError(f"give {ways}, or init_from, which names its own architecture")
        return self

    @model_serializer(mode="wrap")
    def _in_effect(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A run is known by its student's fields; those begun before there were these fields go on.
        return in_effect(self, handler(self), "pretrained", "image_size", "call")
