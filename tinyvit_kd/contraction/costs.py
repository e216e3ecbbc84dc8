"""What a shape takes: of its network, built without memory for its numbers."""

from __future__ import annotations

from functools import cache

from tinyvit_kd.contraction.records import Costs
from tinyvit_kd.contraction.shape import Shape
from tinyvit_kd.models.families import build_network
from tinyvit_kd.planning.networks import cost_of, without_memory


@cache  # a search asks again and again, and each answer takes a quarter of a second
def costs_of(shape: Shape, num_classes: int, image_size: int) -> Costs:
    """What the network of a shape takes.

    Args:
        num_classes: C of the head.
        image_size: side of the input, pixels.

    Raises:
        ConfigError: timm refuses the shape, or the network does not take images of this size.
    """
    network = without_memory(lambda: build_network(shape.spec(), num_classes, image_size))
    cost = cost_of(network, image_size, trains=False)
    return Costs(
        parameters=cost.parameters,
        multiply_adds=cost.multiply_adds,
        memory_bytes=cost.weight_bytes + cost.largest_bytes,
        moved_bytes=cost.moved_bytes,
    )
