"""The optimiser: which one, its learning rates and its own settings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from tinyvit_kd.config.base import Section, in_effect, unit

Decay = Annotated[float, Field(ge=0, lt=1)]
ADAMW = "adamw"
ADAMW_BETAS, ADAMW_EPS = (0.9, 0.999), 1e-8


class OptimConfig(Section):
    """Optimiser. Learning rates are given for a batch of ``lr_batch`` and scaled linearly to the global batch.

    ``betas``, ``eps``, ``momentum`` and ``kwargs`` are refused where the optimiser does not take them.
    """

    base_lr: float = Field(gt=0, description="peak learning rate at a global batch of lr_batch")
    warmup_lr: float = Field(5e-7, ge=0, description="learning rate at the start of the warm-up, scaled as base_lr is")
    min_lr: float = Field(5e-6, ge=0, description="learning rate at the end of the cosine, scaled as base_lr is")
    lr_batch: int = Field(
        512, ge=1, description="global batch for which the three rates are given", json_schema_extra=unit("views")
    )
    weight_decay: float = Field(
        0.05,
        ge=0,
        description="weight decay, as the optimiser applies it: decoupled in adamw, lion and muon, for example, and "
        "added to the gradient in sgd; not applied to 1-D tensors, biases and attention biases",
    )
    betas: tuple[Decay, ...] | None = Field(
        None,
        description="decay rates of the moments, two or, for adan, three; null: the optimiser's own, which for adamw "
        "are 0.9 and 0.999",
        json_schema_extra=unit("fraction per step"),
    )
    eps: float | None = Field(None, gt=0, description="the optimiser's epsilon; null: its own, which for adamw is 1e-8")
    clip_grad: float | None = Field(5.0, gt=0, description="largest global norm of the gradient; null: no clipping")
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="factor on the learning rate from each block to the one below it",
        json_schema_extra=unit("fraction per block"),
    )
    name: str = Field(
        ADAMW,
        description="adamw, or another of timm's optimisers by name, for example sgd (with Nesterov's momentum), lamb, "
        "lion, muon or adan",
    )
    momentum: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="momentum, for sgd and others that take it; null: the optimiser's own or, where that is 0, 0.9",
        json_schema_extra=unit("fraction per step"),
    )
    kwargs: dict[str, bool | int | float | str | list[float] | None] = Field(
        default_factory=dict,
        description="further arguments of the optimiser, for example max_grad_norm of lamb",
    )

    @model_validator(mode="after")
    def _adamw_has_its_own(self) -> OptimConfig:
        # A run is known by these fields; those begun when AdamW was the only optimiser, and these its defaults, go on.
        # They do not count as given, since recipes for the winners of a search have what was given alone.
        if self.name == ADAMW:
            own = {"betas": self.betas or ADAMW_BETAS, "eps": self.eps or ADAMW_EPS}
            self.__dict__.update(own)
        return self

    @model_serializer(mode="wrap")
    def _in_effect(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return in_effect(self, handler(self), "name", "momentum", "kwargs")
