"""Which network, and where its weights come from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tinyvit_kd.config.base import Section


class TinyVitWidths(Section):
    """An explicit TinyViT (arXiv 2207.10666, §3.2): timm's ``TinyVit`` with these arguments."""

    embed_dims: tuple[int, int, int, int] = Field(description="width of each of the four stages")
    depths: tuple[int, int, int, int] = Field((2, 2, 6, 2), description="blocks of each stage")
    num_heads: tuple[int, int, int, int] | None = Field(None, description="heads a stage; null: width / 32")
    window_sizes: tuple[int, int, int, int] = Field((7, 7, 14, 7), description="attention windows, tokens a side")
    mlp_ratio: float = Field(4.0, gt=0, description="hidden width of the MLP over its width")
    mbconv_expand_ratio: float = Field(4.0, gt=0, description="expansion of the MBConv blocks")
    local_conv_size: int = Field(3, ge=1, description="side of the local convolution, tokens")


class ModelSpec(Section):
    """A network by timm name or by explicit TinyViT widths."""

    name: str | None = Field(None, description="timm model name, for example tiny_vit_5m_224")
    tiny_vit: TinyVitWidths | None = Field(None, description="explicit widths instead of a name")
    drop_path_rate: float | None = Field(None, ge=0, lt=1, description="stochastic depth; null: the model's own")
    kwargs: dict[str, bool | int | float | str | list[int]] = Field(
        default_factory=dict, description="further arguments of timm.create_model, for example img_size"
    )

    @model_validator(mode="after")
    def _one_of(self) -> ModelSpec:
        if (self.name is None) == (self.tiny_vit is None):
            raise ValueError("give exactly one of name and tiny_vit")
        return self


class TeacherConfig(Section):
    """The teacher of stage one: any timm model, with weights from a file or from the hub."""

    name: str | None = Field(None, description="timm model name; null: what the checkpoint says it is")
    checkpoint: Path | None = Field(None, description="local weights: .safetensors, or a torch file of tensors")
    pretrained: bool = Field(False, description="fetch timm's weights for this name from the hub")
    num_classes: int | None = Field(None, ge=2, description="classes C of the head; null: the model's own")
    class_list: str | None = Field(None, description="class list of the head: a file, or timm's name of one")
    image_size: int | None = Field(None, ge=1, description="input side, pixels; null: the model's own")
    mean: tuple[float, float, float] | None = Field(None, description="input mean; null: the model's own")
    std: tuple[float, float, float] | None = Field(None, description="input deviation; null: the model's own")
    kwargs: dict[str, bool | int | float | str | list[int]] = Field(
        default_factory=dict, description="further arguments of timm.create_model"
    )

    @model_validator(mode="after")
    def _has_weights(self) -> TeacherConfig:
        if self.checkpoint is None and not self.pretrained:
            raise ValueError("give checkpoint (a local file) or pretrained: true (timm's weights from the hub)")
        if self.checkpoint is not None and self.pretrained:
            raise ValueError("give checkpoint or pretrained: true, not both")
        if self.checkpoint is None and self.name is None:
            raise ValueError("pretrained: true needs name, a timm model name")
        return self


class StudentConfig(ModelSpec):
    """The student of stages two and three."""

    init_from: Path | None = Field(None, description="model file or run folder to start from; null: random weights")
    class_list: str | None = Field(None, description="class list of init_from's head, where its file does not name one")
    head: Literal["auto", "fresh"] = Field(
        "auto", description="auto: keep or remap by WordNet id where class lists allow; fresh: a zero head"
    )
    grad_checkpointing: bool = Field(False, description="recompute activations in backward, saves memory")

    @model_validator(mode="after")
    def _one_of(self) -> StudentConfig:
        if self.name is not None and self.tiny_vit is not None:
            raise ValueError("give name or tiny_vit, not both")
        if self.name is None and self.tiny_vit is None and self.init_from is None:
            raise ValueError("give name or tiny_vit, or init_from, which names its own architecture")
        return self
