"""What a shape takes, measured on its network, which is built without memory for its numbers.

A round looks at up to thousands of shapes, and these share most of their parts. So each part is measured once, in a
network with one block per stage, and the costs of a shape are sums over its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from torch import nn

from tinyvit_kd.contraction.records import Costs
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.models.families import build_network
from tinyvit_kd.planning.networks import PartCost, cost_of, costs_by_part, without_memory
from tinyvit_kd.planning.operations import REST

_Key = tuple[str, tuple[Any, ...]]  # a part's name, and all factors that its costs depend on
_MOST_PARTS = 5_000  # that are kept of one base's shapes; a search needs hundreds


@dataclass(frozen=True)
class _Part:
    """A part of a shape's network.

    Attributes:
        factors: all values of the shape's factors that its costs depend on.
        times: how many of it there are, one after the other.
    """

    factors: tuple[Any, ...]
    times: int = 1


@lru_cache(maxsize=10_000)  # a search asks again and again
def costs_of(shape: Shape, num_classes: int, image_size: int) -> Costs:
    """What the network of a shape takes.

    Args:
        num_classes: C of the head.
        image_size: side of the input, pixels.

    Raises:
        ConfigError: timm refuses the shape, or the network does not take images of this size.
    """
    parts = _PARTS[shape.family](shape)
    known = _known_parts(shape.family, shape.fixed, shape.kwargs, num_classes, image_size)
    keys: dict[str, _Key] = {name: (name, part.factors) for name, part in parts.items()}
    if not known.keys() >= set(keys.values()):
        _measure(shape, keys, known, num_classes, image_size)
    costs = [(part.times, known[keys[name]]) for name, part in parts.items()]
    if all(times == 1 or (times > 1 and cost.repeats) for times, cost in costs):
        return _sum(costs)
    return _whole(shape, num_classes, image_size)


@lru_cache(maxsize=8)
def _known_parts(family: str, fixed: Any, kwargs: Any, num_classes: int, image_size: int) -> dict[_Key, PartCost]:
    """Parts that were measured, of networks that differ in their factors alone; it is filled by who asks."""
    del family, fixed, kwargs, num_classes, image_size  # they say which of the tables it is
    return {}


def _measure(
    shape: Shape, keys: Mapping[str, _Key], known: dict[_Key, PartCost], num_classes: int, image_size: int
) -> None:
    """Measure all parts of a shape in one network, and note them in ``known``."""
    if len(known) > _MOST_PARTS:
        known.clear()
    network = _network(_with_single_blocks(shape), num_classes, image_size)
    for name, cost in costs_by_part(network, image_size, [name for name in keys if name != REST]).items():
        before = known.setdefault(keys[name], cost)
        assert before == cost, f"{keys[name]} does not say all that its costs depend on: {before}, {cost}"


def _with_single_blocks(shape: Shape) -> Shape:
    return shape.with_factor("depth", 1) if shape.family == "vit" else shape.with_factor("depths", (1, 1, 1, 1))


def _sum(costs: Sequence[tuple[int, PartCost]]) -> Costs:
    return Costs(
        parameters=sum(times * each.parameters for times, each in costs),
        multiply_adds=sum(times * each.multiply_adds for times, each in costs),
        memory_bytes=sum(times * each.weight_bytes for times, each in costs)
        + max(each.largest_bytes for _, each in costs),
        moved_bytes=sum(times * each.moved_bytes for times, each in costs),
    )


def _whole(shape: Shape, num_classes: int, image_size: int) -> Costs:
    """The costs of a shape whose parts do not add up."""
    cost = cost_of(_network(shape, num_classes, image_size), image_size, trains=False)
    return Costs(
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        memory_bytes=cost.weight_bytes + cost.largest_bytes,
        moved_bytes=cost.moved_bytes,
    )


def _network(shape: Shape, num_classes: int, image_size: int) -> nn.Module:
    return without_memory(lambda: build_network(shape.spec(), num_classes, image_size))


def _tiny_vit_parts(shape: Shape) -> dict[str, _Part]:
    widths, depths = shape["widths"], shape["depths"]
    parts = {
        REST: _Part(()),
        "patch_embed": _Part(widths[:1]),
        "stages.0.blocks.0": _Part((widths[0], shape["mbconv_expand_ratio"]), depths[0]),
        "head": _Part(widths[-1:]),
    }
    for stage in range(1, len(widths)):
        parts[f"stages.{stage}"] = _Part(widths[stage - 1 : stage + 1])  # without its blocks: the downsampling
        block = (widths[stage], shape["windows"][stage], shape["mlp_ratio"])
        parts[f"stages.{stage}.blocks.0"] = _Part(block, depths[stage])
    return parts


def _vit_parts(shape: Shape) -> dict[str, _Part]:
    # Attention pooling, for which kwargs may ask, has an MLP, too; so the rest depends on the MLP ratio.
    factors = (shape["width"], shape["mlp_ratio"])
    return {REST: _Part(factors), "blocks.0": _Part(factors, shape["depth"])}


_PARTS: dict[str, Callable[[Shape], dict[str, _Part]]] = {"tiny_vit": _tiny_vit_parts, "vit": _vit_parts}
"""What the networks of a family consist of, by the names of parts in one with single blocks."""
