"""The shape of a network: the numbers that a contraction lowers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinyvit_kd.config.models import ModelSpec

Value = int | float | tuple[int, ...]


@dataclass(frozen=True)
class Shape:
    """A network of a family, by its contraction factors.

    Attributes:
        family: ``tiny_vit`` or ``vit``.
        factors: values by factor, as ``config.contraction`` names them; those of TinyViT's stages are tuples of four.
        fixed: what a contraction leaves as it is, by argument of timm's network: heads' widths, timm's name of a ViT.
    """

    family: str
    factors: tuple[tuple[str, Value], ...]
    fixed: tuple[tuple[str, Value | str], ...] = ()

    def __getitem__(self, factor: str) -> Any:
        return dict(self.factors)[factor]

    def with_factor(self, factor: str, value: Value) -> Shape:
        """The same but for one factor."""
        changed = tuple((name, value if name == factor else old) for name, old in self.factors)
        return Shape(self.family, changed, self.fixed)

    @property
    def name(self) -> str:
        """A short name, which differs where shapes differ, and can be a file's: ``w64-128-160-320_d2-2-6-2_…``."""
        raise NotImplementedError

    def spec(self) -> ModelSpec:
        """The network as a recipe names it, without ``drop_path_rate``."""
        raise NotImplementedError
