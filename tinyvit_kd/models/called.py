"""Networks that a function of the recipe's author makes: called, asked about one image, and held to what was said.

What they answer may be a tensor, or anything with logits; a hook makes the one of the other, so that everybody else
sees an ordinary classifier under its own names of tensors.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.answer import answer_once
from tinyvit_kd.runtime.foreign_code import one_line, resolve

_ANSWERED = "tinyvit_kd_answered"
_IF_WANTED = frozenset({"num_classes", "img_size"})  # given to functions that have parameters of these names
_EMBEDDINGS = ("image_embeds", "pooler_output")  # what transformers calls them, the projected one first


@dataclass(frozen=True)
class Answered:
    """What a network's answer to one image has shown.

    Attributes:
        width: C of logits, or D of an embedding.
        heads: names of the modules whose output is the answer itself.
    """

    width: int
    heads: tuple[str, ...]


def answered(network: nn.Module) -> Answered | None:
    """What ``settle`` has found of a network; None for those that never went through it."""
    found: Answered | None = getattr(network, _ANSWERED, None)
    return found


def build_called(
    spec: ModelSpec, arguments: Mapping[str, Any], image_size: int, seed: int, embeddings: bool = False
) -> nn.Module:
    """The network that ``spec.call`` makes; the default generator is left as it was.

    Args:
        arguments: that the recipe says elsewhere: num_classes and img_size for functions that take them, and others,
            which they must take.
        image_size: side of the input, pixels.
        seed: from which first weights follow.
        embeddings: whether the network gives an embedding of each image in place of logits.

    Raises:
        ConfigError: the name cannot be imported, the call fails, or what it returns is no such network.
    """
    where = f"call: {spec.call}"
    function = resolve(str(spec.call), "call", "the recipe")
    if not callable(function):
        raise ConfigError(
            "a network's call cannot be called",
            where=where,
            found=f"{type(function).__name__}, {function!r:.80}",
            fix="name a function or class that returns the network",
        )
    kwargs = {name: value for name, value in arguments.items() if name not in _IF_WANTED or _takes(function, name)}
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # Where only shapes are asked for, weights that the function loads go nowhere, of which torch tells.
        warnings.filterwarnings("ignore", message=r"(?s)for .*: copying from a non-meta parameter")
        torch.default_generator.manual_seed(seed)
        try:
            network: object = function(**(kwargs | spec.kwargs))
        except Exception as error:  # code of others may raise anything
            raise ConfigError(
                "a call that makes the network failed",
                where=f"{where}({', '.join(f'{name}={value!r}' for name, value in (kwargs | spec.kwargs).items())})",
                found=one_line(error, __file__),
                fix="correct kwargs in the recipe, or the function",
            ) from error
    if not isinstance(network, nn.Module):
        raise ConfigError(
            "a call that makes the network returned none",
            where=where,
            found=f"{type(network).__name__}, {network!r:.80}",
            expected="a torch.nn.Module",
            fix="name a function that returns the network itself",
        )
    return settle(network, image_size, arguments.get("num_classes"), where, embeddings)


def settle(
    network: nn.Module, image_size: int, num_classes: int | None, where: str, embeddings: bool = False
) -> nn.Module:
    """Make any network give a plain tensor of logits, or of embeddings, and note how wide it is.

    Args:
        num_classes: C that was said; None: whatever it has.
        where: the network was named, for messages.

    Raises:
        ConfigError: it does not take such an image, returns no logits, or those of another number of classes.
    """
    output, heads = _ask(network, image_size, where)
    tensor = _tensor_in(output, embeddings)
    if tensor is None or tensor.ndim != 2 or len(tensor) != 1 or not tensor.is_floating_point():
        wanted = "an embedding" if embeddings else "logits"
        raise ConfigError(
            f"the network returns no {wanted.split()[-1]}",
            where=where,
            found=_told(output),
            expected=f"for an image [1, 3, {image_size}, {image_size}], {wanted} [1, {'D' if embeddings else 'C'}]: a "
            f"tensor, or what has {' or '.join(_EMBEDDINGS) if embeddings else 'logits'} as an attribute or entry",
            fix="name a function that returns such a network; it may wrap another one in a module of its own",
        )
    if num_classes is not None and not embeddings and tensor.shape[1] != num_classes:
        raise ConfigError(
            "the network has another number of classes than is said of it",
            where=where,
            found=f"{tensor.shape[1]} logits",
            expected=f"{num_classes}",
            fix="correct num_classes, the class list, or the arguments of the network (kwargs); a function that has a "
            "parameter num_classes is told by itself",
        )
    network.register_forward_hook(_to_embedding if embeddings else _to_logits)
    setattr(network, _ANSWERED, Answered(tensor.shape[1], tuple(name for name, each in heads if each is tensor)))
    return network


def _takes(function: Any, name: str) -> bool:
    """Whether a function has a parameter of this name."""
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):  # of built-in functions nothing is known
        return False


def _ask(network: nn.Module, image_size: int, where: str) -> tuple[object, list[tuple[str, torch.Tensor]]]:
    """A network's answer to one image, and what its modules with weights gave on the way, by name."""
    given: list[tuple[str, torch.Tensor]] = []
    # Those of timm's networks are known to timm.
    named = [] if hasattr(network, "pretrained_cfg") else list(network.named_modules())
    leaves = {each: name for name, each in named if name and next(each.children(), None) is None}

    def note(module: nn.Module, _: object, output: object) -> None:
        if isinstance(output, torch.Tensor) and hasattr(module, "weight"):
            given.append((leaves[module], output))

    hooks = [each.register_forward_hook(note) for each in leaves]
    try:
        output = answer_once(network, image_size)
    except Exception as error:  # code of others may raise anything
        raise ConfigError(
            "the network does not take an image of this size",
            where=where,
            found=f"{image_size} x {image_size} pixels: {one_line(error, __file__)}",
            expected=f"a network of float32 images [B, 3, {image_size}, {image_size}]",
            fix="set image_size (of a student: views.size) to a size that it takes, or correct the network",
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
    return output, given


def _tensor_in(output: object, embeddings: bool) -> torch.Tensor | None:
    """The logits, or the embedding [B, D], in whatever a network returns; None if there are none."""
    if isinstance(output, torch.Tensor):
        found: object = output
    else:
        names = _EMBEDDINGS if embeddings else ("logits",)
        entries = [output.get(name) if isinstance(output, Mapping) else getattr(output, name, None) for name in names]
        found = next((each for each in entries if each is not None), None)
    if not isinstance(found, torch.Tensor):
        return None
    return found.flatten(1) if embeddings and found.ndim == 4 else found  # [B, D, 1, 1] of convolutional networks


def _told(output: object) -> str:
    if isinstance(output, torch.Tensor):
        return f"a tensor {list(output.shape)} of {output.dtype}"
    if isinstance(output, Mapping):
        return f"{type(output).__name__} with {', '.join(map(str, output)) or 'nothing in it'}"
    return type(output).__name__


def _to_logits(module: nn.Module, _: object, output: object) -> torch.Tensor:
    tensor = _tensor_in(output, embeddings=False)
    return _checked(module, tensor, output)


def _to_embedding(module: nn.Module, _: object, output: object) -> torch.Tensor:
    return _checked(module, _tensor_in(output, embeddings=True), output)


def _checked(module: nn.Module, tensor: torch.Tensor | None, output: object) -> torch.Tensor:
    if tensor is None:
        mode = "training" if module.training else "evaluation"
        raise ConfigError(
            f"in {mode} mode the network returns something else than before",
            where=type(module).__name__,
            found=_told(output),
            expected="the same in training and in evaluation mode",
            fix="wrap it in a module that returns the tensor alone",
        )
    return tensor
