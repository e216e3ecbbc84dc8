"""The shape of a network: the numbers that a contraction lowers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tinyvit_kd.config.model_spec import ModelSpec, TinyVitWidths
from tinyvit_kd.models.families import HEAD_WIDTH

Value = int | float | tuple[int, ...]
Argument = bool | int | float | str | tuple[int, ...]

_LETTERS = {
    "tiny_vit": {"widths": "w", "depths": "d", "windows": "n", "mbconv_expand_ratio": "e", "mlp_ratio": "m"},
    "vit": {"width": "w", "depth": "d", "mlp_ratio": "m"},
}


@dataclass(frozen=True)
class Shape:
    """A network of a family, by its contraction factors.

    Attributes:
        family: ``tiny_vit`` or ``vit``.
        factors: values by factor, as ``config.contraction`` names them; those of TinyViT's stages are tuples of four.
        fixed: what a contraction leaves as it is. Of a TinyViT ``head_widths`` of stages 1 to 3 (stage 0 has no
            attention) and ``local_conv_size``; of a ViT timm's ``name`` and ``head_width``.
        kwargs: further arguments of timm's network, as the base has them.
    """

    family: str
    factors: tuple[tuple[str, Value], ...]
    fixed: tuple[tuple[str, Value | str], ...] = ()
    kwargs: tuple[tuple[str, Argument], ...] = ()

    def __getitem__(self, name: str) -> Any:
        """The value of a factor, or of what is fixed."""
        return dict(self.factors + self.fixed)[name]

    def with_factor(self, factor: str, value: Value) -> Shape:
        """The same but for one factor."""
        changed = tuple((name, value if name == factor else old) for name, old in self.factors)
        return Shape(self.family, changed, self.fixed, self.kwargs)

    @property
    def name(self) -> str:
        """A short name, which can be a file's: ``w64-128-160-320_d2-2-6-2_n7-7-14-7_e4_m4``.

        Names differ where shapes that were contracted from one base differ. What is fixed is not in them.
        """
        letters = _LETTERS[self.family]
        return "_".join(letters[factor] + _text(value) for factor, value in self.factors)

    @property
    def num_heads(self) -> Any:
        """Attention heads: of each TinyViT stage, a tuple of four, or of a ViT's blocks, a number."""
        if self.family == "vit":
            return self["width"] // self["head_width"]
        first, *others = self["widths"]
        # Stage 0 has no attention; its number is what a recipe without num_heads has.
        heads = (width // each for width, each in zip(others, self["head_widths"], strict=True))
        return (max(1, first // HEAD_WIDTH), *heads)

    def spec(self) -> ModelSpec:
        """The network as a recipe names it, without ``drop_path_rate``."""
        kwargs = {name: list(each) if isinstance(each, tuple) else each for name, each in self.kwargs}
        if self.family == "vit":
            factors = {"embed_dim": self["width"], "depth": self["depth"], "num_heads": self.num_heads}
            return ModelSpec(name=self["name"], kwargs=kwargs | factors | {"mlp_ratio": self["mlp_ratio"]})
        widths = TinyVitWidths(
            embed_dims=self["widths"],
            depths=self["depths"],
            num_heads=self.num_heads,
            window_sizes=self["windows"],
            mlp_ratio=self["mlp_ratio"],
            mbconv_expand_ratio=self["mbconv_expand_ratio"],
            local_conv_size=self["local_conv_size"],
        )
        return ModelSpec(tiny_vit=widths, kwargs=kwargs)


def _text(value: Value) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"
