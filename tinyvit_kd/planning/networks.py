"""What a network takes, measured on the network itself without its numbers: parameters, multiply-adds, activations.

Networks are built on torch's meta device, where tensors have shapes and no memory. So those of the largest teachers
are known in a second, on any machine, and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from tinyvit_kd.errors import ConfigError, TinyVitKdError
from tinyvit_kd.planning.operations import REST, bytes_of, own_storages, pass_by_part
from tinyvit_kd.runtime.foreign_errors import first_line_of

_BATCH = 2  # batch norm of one pixel needs two values


@dataclass(frozen=True)
class NetworkCost:
    """What one network takes.

    Attributes:
        parameters: numbers.
        trained: those of them that a training changes.
        weight_bytes: of all parameters and buffers, as they are trained.
        multiply_adds: of one image's forward pass; matrix products and convolutions count, attention's among them.
        kept_bytes: float32 activations per image that the backward pass needs; 0 for networks that are only asked.
        largest_bytes: float32 input and output of the largest layer, per image.
        moved_bytes: float32 inputs and outputs of all layers, for one image, and all parameters once. Layers are those
            that run without a compiler, one operation at a time; views of a tensor move nothing.
    """

    parameters: int
    trained: int
    weight_bytes: int
    multiply_adds: int
    kept_bytes: int
    largest_bytes: int
    moved_bytes: int


@dataclass(frozen=True)
class PartCost:
    """What a part of a network takes in a forward pass of one image.

    Attributes:
        parameters: numbers.
        weight_bytes, multiply_adds, largest_bytes, moved_bytes: as of ``NetworkCost``.
        repeats: whether its output has the shape and layout of its input. Then a second part like it, right after it,
            takes the same, and so does everything that follows.
    """

    parameters: int
    weight_bytes: int
    multiply_adds: int
    largest_bytes: int
    moved_bytes: int
    repeats: bool


def without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network on the meta device; one that cannot be built there is built as it is.

    Raises:
        TinyVitKdError: whatever ``build`` raises elsewhere, too.
    """
    try:
        with torch.device("meta"):
            return build()
    except Exception:  # networks may look at numbers while they are built, which there are none of
        return build()


def cost_of(network: nn.Module, size: int, *, trains: bool) -> NetworkCost:
    """Measure a network on images of ``size`` pixels; it is left in training mode if it trains.

    Raises:
        ConfigError: it does not take images of this size.
    """
    whole = costs_by_part(network, size)[REST]
    parameters = list(network.parameters())
    kept = 0
    if trains:
        with _naming_size(network, size):
            kept = _kept(network.train(), _images(parameters, _BATCH, size)) // _BATCH
    return NetworkCost(
        parameters=whole.parameters,
        trained=sum(each.numel() for each in parameters if each.requires_grad),
        weight_bytes=whole.weight_bytes,
        multiply_adds=whole.multiply_adds,
        kept_bytes=kept,
        largest_bytes=whole.largest_bytes,
        moved_bytes=whole.moved_bytes,
    )


def costs_by_part(network: nn.Module, size: int, parts: Collection[str] = ()) -> dict[str, PartCost]:
    """Measure parts of a network on images of ``size`` pixels; it is left in evaluation mode.

    What they take adds up to what ``cost_of`` finds of the network; of ``largest_bytes`` the largest is the network's.

    Args:
        parts: names of submodules. If one is within another, what it takes does not count for the outer one.

    Returns:
        By name; ``REST`` is all that belongs to none of them.

    Raises:
        ConfigError: it does not take images of this size.
    """
    modules = {name: network.get_submodule(name) for name in parts}
    _unfuse_attention(network)
    parameters = _by_part(network.named_parameters(), parts)
    buffers = _by_part(network.named_buffers(), parts)
    with _naming_size(network, size):
        passed = pass_by_part(network.eval(), _images(list(network.parameters()), 1, size), modules)
    return {
        name: PartCost(
            parameters=sum(each.numel() for each in parameters[name]),
            weight_bytes=bytes_of([*parameters[name], *buffers[name]]),
            multiply_adds=found.multiply_adds,
            largest_bytes=found.largest_bytes,
            moved_bytes=found.moved_bytes + bytes_of(parameters[name]),
            repeats=found.repeats,
        )
        for name, found in passed.items()
    }


def _by_part(named: Iterable[tuple[str, torch.Tensor]], parts: Collection[str]) -> dict[str, list[torch.Tensor]]:
    """Tensors of a network by the innermost part that they lie in."""
    found: dict[str, list[torch.Tensor]] = {part: [] for part in (*parts, REST)}
    for name, tensor in named:
        around = [part for part in parts if name.startswith(f"{part}.")]
        found[max(around, key=len, default=REST)].append(tensor)
    return found


@contextmanager
def _naming_size(network: nn.Module, size: int) -> Iterator[None]:
    """Errors of a forward pass as one that names the size of the images."""
    try:
        yield
    except TinyVitKdError:
        raise
    except Exception as error:  # timm's networks raise anything for images that they do not take
        raise ConfigError(
            "the network does not take images of this size",
            where=type(network).__name__,
            found=f"{size} x {size} pixels: {first_line_of(error)}",
            fix="set views.size (or teacher.image_size) to a size that it takes, or choose another network",
        ) from error


def _images(parameters: list[nn.Parameter], count: int, size: int) -> torch.Tensor:
    return torch.zeros(count, 3, size, size, device=parameters[0].device)


def _unfuse_attention(network: nn.Module) -> None:
    """Have attention done by matrix products: the counter of operations does not know all fused kernels."""
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.__dict__["fused_attn"] = False


def _kept(network: nn.Module, images: torch.Tensor) -> int:
    """Bytes that autograd keeps for the backward pass; weights, which are there anyway, do not count."""
    own = own_storages(network)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor  # held, so that no other one gets its number
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(images)
    return sum(each.untyped_storage().nbytes() for each in kept.values())
