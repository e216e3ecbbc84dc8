"""What a network takes, measured on the network itself without its numbers: parameters, multiply-adds, activations.

Networks are built on torch's meta device, where tensors have shapes and no memory. So those of the largest teachers
are known in a second, on any machine, and nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from tinyvit_kd.errors import ConfigError, TinyVitKdError
from tinyvit_kd.runtime.foreign_errors import first_line_of

_BATCH = 2  # batch norm of one pixel needs two values
_UNSAFE_VIEWS = (torch.ops.aten._unsafe_view.default,)  # views that autograd takes for copies


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
    _unfuse_attention(network)
    parameters = list(network.parameters())
    tensors = [*parameters, *network.buffers()]
    try:
        multiply_adds, layers = _forward(network.eval(), _images(parameters, 1, size))
        kept = _kept(network.train(), _images(parameters, _BATCH, size)) // _BATCH if trains else 0
    except TinyVitKdError:
        raise
    except Exception as error:  # timm's networks raise anything for images that they do not take
        raise ConfigError(
            "the network does not take images of this size",
            where=type(network).__name__,
            found=f"{size} x {size} pixels: {first_line_of(error)}",
            fix="set views.size (or teacher.image_size) to a size that it takes, or choose another network",
        ) from error
    return NetworkCost(
        parameters=sum(each.numel() for each in parameters),
        trained=sum(each.numel() for each in parameters if each.requires_grad),
        weight_bytes=_bytes(tensors),
        multiply_adds=multiply_adds,
        kept_bytes=kept,
        largest_bytes=layers.largest,
        moved_bytes=layers.moved + _bytes(parameters),
    )


def _images(parameters: list[nn.Parameter], count: int, size: int) -> torch.Tensor:
    return torch.zeros(count, 3, size, size, device=parameters[0].device)


def _unfuse_attention(network: nn.Module) -> None:
    """Have attention done by matrix products: the counter of operations does not know all fused kernels."""
    for module in network.modules():
        if hasattr(module, "fused_attn"):
            module.__dict__["fused_attn"] = False


def _forward(network: nn.Module, images: torch.Tensor) -> tuple[int, _Layers]:
    """Multiply-adds of a forward pass, and what its layers take and give."""
    with FlopCounterMode(display=False) as counter, _Layers(_own_storages(network)) as layers, torch.no_grad():
        network(images)
    return counter.get_total_flops() // 2, layers


def _kept(network: nn.Module, images: torch.Tensor) -> int:
    """Bytes that autograd keeps for the backward pass; weights, which are there anyway, do not count."""
    own = _own_storages(network)
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()._cdata
        if storage not in own:
            kept[storage] = tensor  # held, so that no other one gets its number
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(images)
    return sum(each.untyped_storage().nbytes() for each in kept.values())


def _own_storages(network: nn.Module) -> set[int]:
    """The memory of weights and buffers, by its address in torch."""
    return {each.untyped_storage()._cdata for each in [*network.parameters(), *network.buffers()]}


class _Layers(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what operations take and give, weights aside.

    Args:
        own: memory of the weights, which does not count.

    Attributes:
        largest: bytes of the operation that takes and gives most.
        moved: bytes of all operations that read or write numbers.
    """

    def __init__(self, own: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.own = own
        self.largest = self.moved = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        del types
        result = func(*args, **(kwargs or {}))
        # Of several results the first is the layer's; a norm's statistics beside it are not the same on all devices.
        given = result[0] if isinstance(result, tuple) else result
        tensors = [each for each in tree_leaves((args, kwargs, given)) if isinstance(each, torch.Tensor)]
        layer = _bytes(each for each in tensors if each.untyped_storage()._cdata not in self.own)
        self.largest = max(self.largest, layer)
        if not _makes_views(func):
            self.moved += layer
        return result


def _bytes(tensors: Iterable[torch.Tensor]) -> int:
    return sum(each.numel() * each.element_size() for each in tensors)


def _makes_views(operation: torch._ops.OpOverload) -> bool:
    """Whether an operation gives another look at the memory that it is given, and leaves the numbers where they are."""
    aliases = [each.alias_info for each in operation._schema.returns]
    return operation in _UNSAFE_VIEWS or any(each is not None and not each.is_write for each in aliases)
