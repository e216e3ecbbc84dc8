"""Which network: by timm's name, by TinyViT's widths, or by a function that makes it."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tinyvit_kd.config.base import Section, in_effect, unit


class TinyVitWidths(Section):
    """An explicit TinyViT (arXiv 2207.10666, section 3.2): timm's ``TinyVit`` with these arguments."""

    embed_dims: tuple[int, int, int, int] = Field(
        description="width of each of the four stages", json_schema_extra=unit("channels")
    )
    depths: tuple[int, int, int, int] = Field(
        (2, 2, 6, 2), description="number of blocks in each stage", json_schema_extra=unit("blocks")
    )
    num_heads: tuple[int, int, int, int] | None = Field(
        None,
        description="number of attention heads in each stage; null: width / 32",
        json_schema_extra=unit("heads"),
    )
    window_sizes: tuple[int, int, int, int] = Field(
        (7, 7, 14, 7), description="side of the attention window in each stage", json_schema_extra=unit("tokens")
    )
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of the MLP divided by its input width")
    mbconv_expand_ratio: float = Field(4.0, gt=0, description="expansion ratio of the MBConv blocks")
    local_conv_size: int = Field(
        3, ge=1, description="kernel side of the local convolution", json_schema_extra=unit("tokens")
    )


class ModelSpec(Section):
    """A network by timm name, by explicit TinyViT widths, or by a function of your own that makes it."""

    alternatives: ClassVar[tuple[str, ...]] = ("name", "tiny_vit", "call")

    name: str | None = Field(
        None,
        description="timm model name, for example tiny_vit_5m_224; or hf-hub:OWNER/NAME, whose description is fetched, "
        "or local-dir:FOLDER",
    )
    tiny_vit: TinyVitWidths | None = Field(None, description="explicit TinyViT widths")
    call: str | None = Field(
        None,
        description="a function or class, by its dotted name (package.module.function), that is called with kwargs and "
        "returns the network: a torch module that maps normalised images to logits. It gets num_classes, img_size and "
        "drop_path_rate where it has parameters of these names. A model file remembers the name, and is opened only by "
        "a recipe that repeats it",
    )
    drop_path_rate: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="stochastic depth rate; null: the model's own",
        json_schema_extra=unit("probability"),
    )
    kwargs: dict[str, bool | int | float | str | list[int]] = Field(
        default_factory=dict,
        description="further arguments of timm.create_model, for example img_size; they may fetch or read files "
        "(pretrained, checkpoint_path). With call: its arguments",
    )

    @property
    def given(self) -> list[str]:
        """Which of the ways to name a network the recipe uses."""
        return [field for field in self.alternatives if getattr(self, field) is not None]

    @model_validator(mode="after")
    def _one_of(self) -> ModelSpec:
        if len(self.given) != 1:
            raise ValueError(f"give exactly one of {', '.join(self.alternatives)}")
        return self

    @model_serializer(mode="wrap")
    def _in_effect(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Model files and runs are known by these fields; those made before there was ``call`` stay what they are.
        return in_effect(self, handler(self), "call")
