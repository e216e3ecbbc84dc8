"""How a network is contracted: the space of shapes, the limits, and how candidates are timed, trained and scored."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tinyvit_kd.config.base import Section, unit

_AtLeastOne = Annotated[int, Field(ge=1)]
_Positive = Annotated[float, Field(gt=0)]
TinyVitFactor = Literal["widths", "depths", "windows", "mbconv_expand_ratio", "mlp_ratio"]
VitFactor = Literal["width", "depth", "mlp_ratio"]


class TinyVitSpaceConfig(Section):
    """Contraction factors of a TinyViT (arXiv 2207.10666, section 3.2). Each move lowers one factor by one step."""

    factors: list[TinyVitFactor] = Field(
        ["widths", "depths", "windows", "mbconv_expand_ratio", "mlp_ratio"],
        min_length=1,
        description="factors that are lowered; the others stay as the base has them",
    )
    width_step: int = Field(
        32,
        ge=1,
        description="step of the widths; in stages with attention a multiple of the base's width of a head, which "
        "stays: a narrower stage has fewer heads",
        json_schema_extra=unit("channels"),
    )
    lowest_widths: tuple[_AtLeastOne, _AtLeastOne, _AtLeastOne, _AtLeastOne] = Field(
        (32, 32, 32, 32), description="smallest width of each stage", json_schema_extra=unit("channels")
    )
    lowest_depths: tuple[_AtLeastOne, _AtLeastOne, _AtLeastOne, _AtLeastOne] = Field(
        (1, 1, 1, 1),
        description="smallest number of blocks in each stage; the step is 1",
        json_schema_extra=unit("blocks"),
    )
    windows: list[_AtLeastOne] = Field(
        [7, 14],
        description="sides that attention windows may have; a move takes the next smaller one. The default is for "
        "views of 224 pixels; for 384 give [12, 24], for 512 [16, 32]",
        json_schema_extra=unit("tokens"),
    )
    mbconv_expand_step: float = Field(1.0, gt=0, description="step of the expansion ratio of the MBConv blocks")
    lowest_mbconv_expand: float = Field(2.0, gt=0, description="smallest expansion ratio of the MBConv blocks")
    mlp_step: float = Field(1.0, gt=0, description="step of the MLP ratio")
    lowest_mlp: float = Field(2.0, gt=0, description="smallest MLP ratio")


class VitSpaceConfig(Section):
    """Contraction factors of a ViT or DeiT. Each move lowers one factor by one step."""

    factors: list[VitFactor] = Field(
        ["width", "depth", "mlp_ratio"],
        min_length=1,
        description="factors that are lowered; the others stay as the base has them",
    )
    width_step: int = Field(
        64,
        ge=1,
        description="step of the width, a multiple of the base's width of a head, which stays: a narrower network has "
        "fewer heads",
        json_schema_extra=unit("channels"),
    )
    lowest_width: int = Field(64, ge=1, description="smallest width", json_schema_extra=unit("channels"))
    lowest_depth: int = Field(
        1, ge=1, description="smallest number of blocks; the step is 1", json_schema_extra=unit("blocks")
    )
    mlp_step: float = Field(1.0, gt=0, description="step of the MLP ratio")
    lowest_mlp: float = Field(2.0, gt=0, description="smallest MLP ratio")


class SpaceConfig(Section):
    """Shapes that a search may reach, by family; the base, which is the student, says of which family it is."""

    tiny_vit: TinyVitSpaceConfig = Field(default_factory=TinyVitSpaceConfig, description="if the base is a TinyViT")
    vit: VitSpaceConfig = Field(default_factory=VitSpaceConfig, description="if the base is a ViT or DeiT")


class LimitsConfig(Section):
    """What the last round's students must keep to; earlier rounds have limits between the base and these."""

    suggested: ClassVar[str | None] = "parameters"

    parameters: float | None = Field(
        None,
        gt=0,
        description="most parameters, for example 5.5e6; null: any number",
        json_schema_extra=unit("numbers"),
    )
    multiply_adds: float | None = Field(
        None,
        gt=0,
        description="most multiply-adds of one image's forward pass, for example 1.3e9; null: any number",
        json_schema_extra=unit("multiply-adds per image"),
    )
    images_per_second: float | None = Field(
        None,
        gt=0,
        description="least throughput of the forward pass, as throughput says; null: any",
        json_schema_extra=unit("images per second"),
    )
    memory_mib: float | None = Field(
        None,
        gt=0,
        description="most memory of a forward pass of one image: weights, and input and output of the largest layer; "
        "null: any",
        json_schema_extra=unit("MiB"),
    )

    @model_validator(mode="after")
    def _some_limit(self) -> LimitsConfig:
        if all(getattr(self, name) is None for name in type(self).model_fields):
            raise ValueError(
                f"give at least one of {', '.join(type(self).model_fields)}: without a limit the base wins"
            )
        return self


class SearchConfig(Section):
    """Rounds of the search."""

    rounds: int = Field(
        6,
        ge=1,
        description="rounds; each tightens the limits by the same factor, up to those of limits",
        json_schema_extra=unit("rounds"),
    )
    bases: int = Field(
        2,
        ge=1,
        description="candidates of a round that are the bases of the next one: the best of those that no other one "
        "beats in score and in what is limited",
        json_schema_extra=unit("candidates"),
    )
    moves: int = Field(
        4,
        ge=1,
        description="most moves from a base to a candidate of one round: several where no shape on the way keeps to "
        "the round's limits",
        json_schema_extra=unit("moves"),
    )
    candidates: int = Field(
        20,
        ge=1,
        description="candidates of a round, though shapes one move away are never left out: those further away fill "
        "it up, the ones that use most of what the limits allow first",
        json_schema_extra=unit("candidates"),
    )
    winners: int = Field(
        1,
        ge=1,
        description="recipes that are written, of the best of the last round",
        json_schema_extra=unit("recipes"),
    )


class HardwareConfig(Section):
    """Figures of a machine that is not at hand: a forward pass takes the longer of computing and moving."""

    multiply_adds_per_second: _Positive = Field(
        description="multiply-adds that it sustains, about half of its peak in FLOP/s times what is reached of it",
        json_schema_extra=unit("multiply-adds per second"),
    )
    bytes_per_second: _Positive = Field(
        description="memory bandwidth that it sustains", json_schema_extra=unit("bytes per second")
    )
    bytes_per_number: _Positive = Field(
        2,
        description="bytes of a weight or activation: 2 in half precision, 4 in float32",
        json_schema_extra=unit("bytes"),
    )


class ThroughputConfig(Section):
    """How throughput is measured: forward passes in turns with the base's, so that a noisy machine does not decide."""

    batch_size: int = Field(64, ge=1, description="images in one forward pass", json_schema_extra=unit("images"))
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="autocast precision; auto: float16 on CUDA, float32 on the CPU"
    )
    compile: bool = Field(False, description="whether networks are compiled before they are timed")
    turns: int = Field(
        7,
        ge=3,
        description="fewest timings of base and candidate, in turns; the median of their ratios counts. Where that is "
        "not sure to a hundredth, there are up to four times as many",
        json_schema_extra=unit("timings"),
    )
    hardware: HardwareConfig | None = Field(
        None, description="figures of another machine, to reckon throughput instead of measuring it; null: measure here"
    )


class ProxyConfig(Section):
    """How candidates are trained and scored, briefly, from the store.

    Optimiser, batch, lanes and seed are those of optim and schedule, unless they are given here. All candidates of a
    round are trained for the first part of the steps; of each part's, the best go on to the next.
    """

    steps: int = Field(
        2000, ge=1, description="optimiser steps of a candidate that comes to the end", json_schema_extra=unit("steps")
    )
    rungs: int = Field(
        3,
        ge=1,
        le=100,
        description="parts of the training, after each of which the worse candidates leave (successive halving)",
        json_schema_extra=unit("parts"),
    )
    reduction: float = Field(
        2.0,
        gt=1,
        description="of so many candidates one goes on to the next part, whose end has so many times the steps",
    )
    finalists: int = Field(
        3,
        ge=1,
        description="best candidates of a round that are trained with further seeds",
        json_schema_extra=unit("candidates"),
    )
    seeds: int = Field(2, ge=1, description="trainings of each finalist", json_schema_extra=unit("trainings"))
    inherit: bool = Field(
        True,
        description="whether candidates begin with slices of their base's weights; the base has those of "
        "student.init_from, or is trained first",
    )
    held_out: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="fraction of the shards, but at least one, that no candidate is trained on and all are scored on",
        json_schema_extra=unit("fraction"),
    )
    base_lr: float | None = Field(
        None, gt=0, description="peak learning rate at a global batch of optim.lr_batch; null: optim.base_lr"
    )
    warmup: float = Field(
        0.05, ge=0, lt=1, description="linear warm-up at the start of each part", json_schema_extra=unit("fraction")
    )
