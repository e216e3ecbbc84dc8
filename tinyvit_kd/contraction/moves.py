"""Single moves of a contraction: what one step makes of a shape, and how far apart two shapes are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import lcm
from typing import TypeVar

from tinyvit_kd.config.contraction import SpaceConfig, TinyVitSpaceConfig, VitSpaceConfig
from tinyvit_kd.contraction.inherit import axes_of
from tinyvit_kd.contraction.shape import Shape, Value
from tinyvit_kd.errors import ConfigError

_Number = TypeVar("_Number", int, float)
_DIGITS = 6  # of ratios; differences of numbers such as 2.3 and 0.1 are not exact


def lowered_from(shape: Shape, space: SpaceConfig) -> list[Shape]:
    """What one move makes of a shape, in the order of its factors, then stages.

    Raises:
        ConfigError: the width step is not a multiple of the width of a head.
    """
    if shape.family == "vit":
        factors: Sequence[str] = space.vit.factors
        lower = _lower_vit(shape, space.vit)
    else:
        factors = space.tiny_vit.factors
        lower = _lower_tiny_vit(shape, space.tiny_vit)
    moved = (
        shape.with_factor(factor, each) for factor, _ in shape.factors if factor in factors for each in lower[factor]
    )
    return [each for each in moved if _has_channels(each)]


def moves_between(base: Shape, shape: Shape) -> tuple[str, ...]:
    """How far each number went, in words; not by which steps."""
    moves: list[str] = []
    for (factor, old), (_, new) in zip(base.factors, shape.factors, strict=True):
        if isinstance(old, tuple) and isinstance(new, tuple):
            pairs = enumerate(zip(old, new, strict=True))
            moves += [f"{factor}[{stage}] {more} → {less}" for stage, (more, less) in pairs if more != less]
        elif old != new:
            moves.append(f"{factor} {old:g} → {new:g}")
    return tuple(moves)


def _lower_tiny_vit(shape: Shape, space: TinyVitSpaceConfig) -> dict[str, list[Value]]:
    """Values that a move may give each factor."""
    if "widths" in space.factors:
        _require_whole_heads(space.width_step, shape["head_widths"], "space.tiny_vit.width_step")
    widths = zip(shape["widths"], space.lowest_widths, strict=True)
    depths = zip(shape["depths"], space.lowest_depths, strict=True)
    _, *windows = shape["windows"]  # stage 0 has no attention
    return {
        "widths": _in_one_place(shape["widths"], (_less(width, space.width_step, low) for width, low in widths)),
        "depths": _in_one_place(shape["depths"], (_less(depth, 1, low) for depth, low in depths)),
        "windows": _in_one_place(shape["windows"], [None, *(_next_smaller(side, space.windows) for side in windows)]),
        "mbconv_expand_ratio": _if_any(
            _less(shape["mbconv_expand_ratio"], space.mbconv_expand_step, space.lowest_mbconv_expand)
        ),
        "mlp_ratio": _if_any(_less(shape["mlp_ratio"], space.mlp_step, space.lowest_mlp)),
    }


def _lower_vit(shape: Shape, space: VitSpaceConfig) -> dict[str, list[Value]]:
    if "width" in space.factors:
        _require_whole_heads(space.width_step, (shape["head_width"],), "space.vit.width_step")
    return {
        "width": _if_any(_less(shape["width"], space.width_step, space.lowest_width)),
        "depth": _if_any(_less(shape["depth"], 1, space.lowest_depth)),
        "mlp_ratio": _if_any(_less(shape["mlp_ratio"], space.mlp_step, space.lowest_mlp)),
    }


def _less(value: _Number, step: _Number, lowest: _Number) -> _Number | None:
    less = round(value - step, _DIGITS)
    return less if less >= lowest else None


def _next_smaller(side: int, sides: Iterable[int]) -> int | None:
    return max((each for each in sides if each < side), default=None)


def _in_one_place(values: tuple[int, ...], lower: Iterable[int | None]) -> list[Value]:
    """The values with one of them lowered, for each that can be."""
    moved = enumerate(lower)
    return [(*values[:stage], less, *values[stage + 1 :]) for stage, less in moved if less is not None]


def _if_any(value: int | float | None) -> list[Value]:
    return [] if value is None else [value]


def _has_channels(shape: Shape) -> bool:
    """Whether no layer is empty: small ratios of small widths are rounded down."""
    stages = 1 if shape.family == "vit" else len(shape["widths"])
    return all(min(grid) > 0 for stage in range(stages) for grid in axes_of(shape, stage).values())


def _require_whole_heads(step: int, head_widths: tuple[int, ...], where: str) -> None:
    if any(step % width for width in head_widths):
        common = lcm(*head_widths)
        raise ConfigError(
            "a step of the width would cut an attention head",
            where=where,
            found=f"{step}; the student's heads are {', '.join(map(str, sorted(set(head_widths))))} channels wide",
            expected=f"a multiple of {common}",
            fix=f"set {where} to {common}, or leave the width out of the factors",
        )
