"""The shape of a base, read off the network itself, so that names and arguments need no table; and moves from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from timm.models.deit import VisionTransformerDistilled
from timm.models.tiny_vit import TinyVit
from timm.models.vision_transformer import VisionTransformer

from tinyvit_kd.config.contraction import SpaceConfig
from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.contraction.inherit import without_rule
from tinyvit_kd.contraction.moves import lowered_from, moves_between
from tinyvit_kd.contraction.records import Candidate
from tinyvit_kd.contraction.shape import Argument, Shape
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.families import build_network, named_by_timm
from tinyvit_kd.models.plain_card import without_fetching
from tinyvit_kd.planning.networks import without_memory

_TINY_VIT_ARGUMENTS = {
    *("embed_dims", "depths", "num_heads", "window_sizes"),
    *("mlp_ratio", "mbconv_expand_ratio", "local_conv_size"),
}
_VIT_ARGUMENTS = {"embed_dim", "depth", "num_heads", "mlp_ratio"}


def shape_of(spec: ModelSpec, num_classes: int, image_size: int) -> Shape:
    """The shape of a network that a recipe names.

    Stochastic depth is not part of it, nor are arguments that fetch weights.

    Args:
        num_classes: C of the head.
        image_size: side of the input, pixels.

    Raises:
        ConfigError: the network cannot be built, is neither a TinyViT nor a ViT, or its factors do not say all of it.
    """
    if spec.call is not None:
        raise _no_family(spec, f"a network that {spec.call} makes")
    spec = without_fetching(named_by_timm(spec))

    def build(each: ModelSpec) -> Any:
        return without_memory(lambda: build_network(each, num_classes, image_size))

    network = build(spec)
    if isinstance(network, TinyVit) and all(len(stage.blocks) for stage in network.stages):
        shape = _tiny_vit(network, spec)
    elif type(network) in (VisionTransformer, VisionTransformerDistilled) and len(network.blocks):
        shape = _vit(network, spec)
    else:
        raise _no_family(spec, type(network).__name__)
    if strange := without_rule(network.state_dict(), shape):
        raise _no_family(spec, f"a {type(network).__name__} with weights that these do not have, such as {strange[0]}")
    assert _sizes(build(shape.spec())) == _sizes(network)
    return shape


def neighbours(shape: Shape, space: SpaceConfig) -> list[Candidate]:
    """What one move makes of a shape: one factor, of one stage where stages have their own, lowered by one step.

    Moves that would go below a bound are left out. Every move that is left changes the network, whatever the size of
    the images: timm fills tokens up to whole windows, so that even windows larger than the image have a part in it.

    Raises:
        ConfigError: the space's width step is not a multiple of the width of a head.
    """
    return [_candidate(shape, each) for each in lowered_from(shape, space)]


def candidates(
    base: Shape, space: SpaceConfig, meets: Callable[[Shape], bool], most_moves: int
) -> Iterator[list[Candidate]]:
    """The shapes that meet the limits while none on the way to them does: those of one move, of two, and so on.

    What meets is not contracted further. Whoever takes the shapes of the fewest moves alone gets those by the coarsest
    steps, and never sees one that gives up a little of several factors.

    Args:
        meets: whether a shape keeps to the limits; asked once for each shape, and of no more moves than are wanted.
        most_moves: how many lists there are. Moves may be of one factor.

    Yields:
        each shape once, always in the same order.

    Raises:
        ConfigError: the space's width step is not a multiple of the width of a head.
    """
    shapes = [base]
    for _ in range(most_moves):
        lowered = dict.fromkeys(less for shape in shapes for less in lowered_from(shape, space))
        met = {shape: meets(shape) for shape in lowered}
        yield [_candidate(base, shape) for shape in lowered if met[shape]]
        shapes = [shape for shape in lowered if not met[shape]]


def _candidate(base: Shape, shape: Shape) -> Candidate:
    return Candidate(shape, base.name, moves_between(base, shape))


def _tiny_vit(network: Any, spec: ModelSpec) -> Shape:
    first, *others = network.stages
    given: dict[str, Any] = spec.kwargs if spec.tiny_vit is None else spec.tiny_vit.model_dump()

    def ratio(name: str, hidden: int, width: int) -> float:
        # One width, to which it was rounded, need not tell a ratio that was given.
        return float(given[name]) if name in given else ratio_of(hidden, width)

    widths = tuple(each["num_chs"] for each in network.feature_info)
    blocks = [stage.blocks[0] for stage in others]
    # Stage 0 has no windows; the number of its first neighbour stands for them.
    windows = (blocks[0].window_size, *(each.window_size for each in blocks))
    return Shape(
        "tiny_vit",
        factors=(
            ("widths", widths),
            ("depths", tuple(len(stage.blocks) for stage in network.stages)),
            ("windows", windows),
            ("mbconv_expand_ratio", ratio("mbconv_expand_ratio", first.blocks[0].conv1.conv.out_channels, widths[0])),
            ("mlp_ratio", ratio("mlp_ratio", blocks[0].mlp.fc1.out_features, widths[1])),
        ),
        fixed=(
            ("head_widths", tuple(each.dim // each.num_heads for each in blocks)),
            ("local_conv_size", blocks[0].local_conv.conv.kernel_size[0]),
        ),
        kwargs=_other_arguments(spec, _TINY_VIT_ARGUMENTS),
    )


def _vit(network: Any, spec: ModelSpec) -> Shape:
    block = network.blocks[0]
    return Shape(
        "vit",
        factors=(
            ("width", network.embed_dim),
            ("depth", len(network.blocks)),
            ("mlp_ratio", ratio_of(block.mlp.fc1.out_features, network.embed_dim)),
        ),
        fixed=(("name", str(spec.name)), ("head_width", network.embed_dim // block.attn.num_heads)),
        kwargs=_other_arguments(spec, _VIT_ARGUMENTS),
    )


def ratio_of(hidden: int, width: int) -> float:
    """The shortest decimal number r for which int(width * r) is ``hidden``, as timm computes hidden widths."""
    digits = 0
    while int(width * (ratio := round((hidden + 0.5) / width, digits))) != hidden:
        digits += 1
    return ratio


def _other_arguments(spec: ModelSpec, read: set[str]) -> tuple[tuple[str, Argument], ...]:
    """Those that were not read off the network."""
    others = {name: each for name, each in spec.kwargs.items() if name not in read}
    return tuple((name, tuple(each) if isinstance(each, list) else each) for name, each in sorted(others.items()))


def _sizes(network: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _no_family(spec: ModelSpec, found: str) -> ConfigError:
    return ConfigError(
        "the student cannot be contracted",
        where=f"student, {spec.name or ', '.join(spec.given)}",
        found=found,
        expected="a TinyViT, a plain ViT or a DeiT, with blocks in every stage",
        fix="name a larger TinyViT (tiny_vit_21m_224), a DeiT (deit_base_patch16_224), or give widths (tiny_vit)",
    )
