"""What the operations of a forward pass take and give, by the part of the network that runs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

REST = ""  # in place of a part's name: what belongs to none
_UNSAFE_VIEWS = (torch.ops.aten._unsafe_view.default,)  # views that autograd takes for copies


@dataclass
class PassCost:
    """What the operations of one part take in a forward pass.

    Attributes:
        multiply_adds: of matrix products and convolutions.
        largest_bytes: of the operation that takes and gives most, weights aside.
        moved_bytes: of all operations that read or write numbers, weights aside.
        repeats: whether the part ran once, and its output has the shape and layout of its input. Then a second part
            like it, right after it, takes the same, and so does everything that follows.
    """

    multiply_adds: int = 0
    largest_bytes: int = 0
    moved_bytes: int = 0
    repeats: bool = False


def pass_by_part(network: nn.Module, images: torch.Tensor, parts: Mapping[str, nn.Module]) -> dict[str, PassCost]:
    """What a forward pass takes, by part.

    Args:
        parts: modules of the network by name. If one is within another, what it runs does not count for the outer one.

    Returns:
        By name; ``REST`` for what runs in none of them.
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        # Its own tracking of modules, which we do not need, fails where a module takes a weight, as attention pooling.
        counter.mod_tracker.__exit__()
        operations = _Operations(own_storages(network), counter)
        with _noting(parts, operations), operations:
            network(images)
    return {name: operations.found.get(name, PassCost()) for name in (*parts, REST)}


def own_storages(network: nn.Module) -> set[int]:
    """The memory of weights and buffers, by its address in torch."""
    return {each.untyped_storage()._cdata for each in [*network.parameters(), *network.buffers()]}


def bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of all numbers of some tensors."""
    return sum(each.numel() * each.element_size() for each in tensors)


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what operations take and give, weights aside.

    Args:
        own: memory of the weights, which does not count.
        counter: of floating-point operations, two for each multiply-add; it is open already.

    Attributes:
        flops: counted so far.
        running: names of the parts that run, the innermost last.
        found: by name of the part.
    """

    def __init__(self, own: set[int], counter: FlopCounterMode) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.own, self.counter = own, counter
        self.flops = counter.get_total_flops()
        self.running = [REST]
        self.found: dict[str, PassCost] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        del types
        result = func(*args, **(kwargs or {}))
        # Of several results the first is the layer's; a norm's statistics beside it are not the same on all devices.
        given = result[0] if isinstance(result, tuple) else result
        tensors = [each for each in tree_leaves((args, kwargs, given)) if isinstance(each, torch.Tensor)]
        layer = bytes_of(each for each in tensors if each.untyped_storage()._cdata not in self.own)
        part = self.part
        part.multiply_adds += self._new_flops() // 2
        part.largest_bytes = max(part.largest_bytes, layer)
        if not _makes_views(func):
            part.moved_bytes += layer
        return result

    def _new_flops(self) -> int:
        before, self.flops = self.flops, self.counter.get_total_flops()
        return self.flops - before

    @property
    def part(self) -> PassCost:
        """Of the part that runs."""
        return self.found.setdefault(self.running[-1], PassCost())


def _makes_views(operation: torch._ops.OpOverload) -> bool:
    """Whether an operation gives another look at the memory that it is given, and leaves the numbers where they are."""
    aliases = [each.alias_info for each in operation._schema.returns]
    return operation in _UNSAFE_VIEWS or any(each is not None and not each.is_write for each in aliases)


@contextmanager
def _noting(parts: Mapping[str, nn.Module], operations: _Operations) -> Iterator[None]:
    """Tell which part runs."""
    with ExitStack() as hooks:
        for name, module in parts.items():
            for hook in _hooks(name, module, operations):
                hooks.callback(hook.remove)
        yield


def _hooks(name: str, module: nn.Module, operations: _Operations) -> list[torch.utils.hooks.RemovableHandle]:
    def enter(_module: nn.Module, _taken: tuple[Any, ...]) -> None:
        operations.running.append(name)

    def leave(_module: nn.Module, taken: tuple[Any, ...], given: Any) -> None:
        operations.part.repeats = not left and _gives_what_it_takes(taken, given)
        left.append(name)
        operations.running.pop()

    left: list[str] = []
    return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]


def _gives_what_it_takes(taken: tuple[Any, ...], given: Any) -> bool:
    if not all(isinstance(each, torch.Tensor) for each in (*taken, given)):
        return False
    return [_layout(each) for each in taken] == [_layout(given)]


def _layout(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, list[int]]:
    """Strides of sides of 1 are left out: they lead nowhere."""
    sides = zip(tensor.shape, tensor.stride(), strict=True)
    return tensor.dtype, tensor.shape, [stride for side, stride in sides if side > 1]
