"""Networks that are given images of several sizes, one after the other."""

from __future__ import annotations

from collections.abc import Collection

from timm.layers import PatchEmbed
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.answer import answer_once
from tinyvit_kd.models.families import build_network
from tinyvit_kd.runtime.foreign_errors import first_line_of

_DYNAMIC = "dynamic_img_size"  # timm's argument by which a network resizes its position table in each forward pass


def build_for_sizes(spec: ModelSpec, num_classes: int, sizes: Collection[int], seed: int) -> nn.Module:
    """A network for images of the largest size that takes the others, too; its weights are the same either way.

    Convolutions and windows take any size. A table of absolute positions has that of the largest, and is interpolated
    in the forward pass of the others (timm's ``dynamic_img_size``), so that it is one tensor all along.

    Args:
        sizes: sides in pixels.

    Raises:
        ConfigError: the network cannot be built, or does not take images of one of the sizes.
    """
    network = build_network(spec, num_classes, max(sizes), seed)
    refused = _first_refused(network, sizes)
    if refused is None or len(sizes) == 1 or _DYNAMIC in spec.kwargs:
        return _require_taken(network, refused)
    try:
        dynamic = spec.model_copy(update={"kwargs": spec.kwargs | {_DYNAMIC: True}})
        network = build_network(dynamic, num_classes, max(sizes), seed)
    except ConfigError:  # it has no such argument
        return _require_taken(network, refused)
    return _require_taken(network, _first_refused(network, sizes))


def _first_refused(network: nn.Module, sizes: Collection[int]) -> tuple[int, str] | None:
    """The first size that a network does not take, and why."""
    for size in sizes:
        for module in network.modules():
            # timm would build it all the same, and leave the last columns and rows of every image out.
            if isinstance(module, PatchEmbed) and not module.dynamic_img_pad and size % module.patch_size[0]:
                return size, f"patches of {module.patch_size[0]} pixels leave {size % module.patch_size[0]} over"
        try:
            answer_once(network, size)
        except Exception as error:  # timm's networks raise anything for images that they do not take
            return size, first_line_of(error)
    return None


def _require_taken(network: nn.Module, refused: tuple[int, str] | None) -> nn.Module:
    if refused is None:
        return network
    size, why = refused
    raise ConfigError(
        "the network does not take images of this size",
        where="student.image_size",
        found=f"{size} x {size} pixels, {type(network).__name__}: {why}",
        fix="set student.image_size to sizes that it takes, such as multiples of its patches, to one size for all "
        "epochs, or leave it out",
    )
