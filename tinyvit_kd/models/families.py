"""Networks with random weights, from a recipe's description."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import timm
import torch
from timm.models import _hub, parse_model_name
from timm.models.deit import VisionTransformerDistilled
from timm.models.tiny_vit import TinyVit
from torch import nn

from tinyvit_kd.config.model_spec import ModelSpec, TinyVitWidths
from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.called import build_called
from tinyvit_kd.models.differences import in_words
from tinyvit_kd.models.plain_card import fetches
from tinyvit_kd.runtime.foreign_errors import (
    first_line_of,
    is_allocation_refusal,
    refused_tensors,
    refuses_argument,
)

_REFUSALS = (TypeError, RuntimeError, ValueError, AssertionError, KeyError, IndexError)  # of timm's networks
# Arguments in a description that say for what the network was made, not what it is; timm 1.0.31 writes them all.
SAID_ELSEWHERE = frozenset({"num_classes", "img_size", "in_chans"})
HEAD_WIDTH = 32  # TinyViT's width of an attention head (arXiv 2207.10666, section 3.2)


def build_network(spec: ModelSpec, num_classes: int | None, image_size: int | None, seed: int = 0) -> nn.Module:
    """A network whose first weights follow from ``seed``; the default generator is left as it was.

    Args:
        num_classes: C of the head; None: the named model's own.
        image_size: side of the input, pixels; None: the named model's own. Of a network that is called it is known.

    Raises:
        ConfigError: timm knows no such model, or refuses the arguments; or what ``models.called`` says.
    """
    if spec.call is not None:
        assert image_size is not None, "nothing is known of such a network, so that somebody has asked"
        said = _arguments(spec.model_copy(update={"kwargs": {}}), num_classes)
        return build_called(spec, said | {"img_size": image_size}, image_size, seed)
    arguments = _arguments(spec, num_classes)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for field, build in FAMILIES.items():
                if (widths := getattr(spec, field)) is not None:
                    return build(widths, arguments)
            return _start_as_deit(create(spec.name or "", image_size, arguments))
    except Exception as error:
        if is_elsewhere(spec):  # the hub raises errors of many libraries
            raise _unreachable(spec.name, error) from error
        if fetching := [f"{name}: {value}" for name, value in spec.kwargs.items() if fetches(name)]:
            raise ConfigError(
                "the network cannot be built with what its arguments fetch",
                where=f"{spec.name}, kwargs, {', '.join(fetching)}",
                found=first_line_of(error) if (refused := refused_tensors(error)) is None else in_words(*refused),
                fix="check the connection to the hub and its cache (HF_HOME, a folder that can be written), or leave "
                "the argument out and name a file of weights (student.init_from, teacher.checkpoint)",
            ) from error
        if not isinstance(error, _REFUSALS):
            raise
        raise ConfigError(
            "the network cannot be built",
            where=spec.name or ", ".join(spec.given),
            found=first_line_of(error),
            fix=_what_to_change(spec, error),
        ) from error


def _what_to_change(spec: ModelSpec, error: Exception) -> str:
    if is_allocation_refusal(error):
        return "choose a smaller network, fewer classes or a machine with more memory"
    if spec.name is not None and not timm.is_model(spec.name):
        return "python -c 'import timm; print(timm.list_models())' lists the names that timm knows"
    return f"correct its {'arguments (kwargs)' if spec.tiny_vit is None else 'widths or arguments (kwargs)'}"


def create(name: str, image_size: int | None, arguments: dict[str, Any]) -> nn.Module:
    """A timm model; a foreign ``img_size`` goes to those whose weights depend on it, the others take any size."""
    config = timm.get_pretrained_cfg(name)
    foreign = image_size is not None and (config is None or config.input_size[-1] != image_size)
    if foreign and "img_size" not in arguments:
        try:
            sized: nn.Module = timm.create_model(name, img_size=image_size, **arguments)
            return sized
        except TypeError as error:
            if not refuses_argument(error, "img_size"):
                raise
    network: nn.Module = timm.create_model(name, **arguments)
    return network


def _start_as_deit(network: nn.Module) -> nn.Module:
    """Draw the class token of a distilled network as DeiT's code does (models.py, under timm 0.3); timm's is near zero.

    Distillation token and position embeddings start alike in both. Last, so that all other weights stay as they were.
    """
    if isinstance(network, VisionTransformerDistilled):
        nn.init.trunc_normal_(network.cls_token, std=0.02)
    return network


def is_elsewhere(spec: ModelSpec) -> bool:
    """Whether a name leads to a description in a folder or on the hub, as ``hf-hub:owner/name`` does."""
    return spec.name is not None and ":" in spec.name


def named_by_timm(spec: ModelSpec) -> ModelSpec:
    """A specification under timm's own name; one that a folder or the hub describes is read from there.

    Model files then need neither to say what the network is.

    Raises:
        ConfigError: there is no such description, or it cannot be reached.
    """
    if spec.name is None or not is_elsewhere(spec):
        return spec
    try:
        source, location = parse_model_name(spec.name)
        load = _hub.load_model_config_from_path if source == "local-dir" else _hub.load_model_config_from_hf
        _, name, described = load(location)
        described = {each: value for each, value in described.items() if each not in SAID_ELSEWHERE}
        return ModelSpec.model_validate(spec.model_dump() | {"name": name, "kwargs": {**described, **spec.kwargs}})
    except Exception as error:
        raise _unreachable(spec.name, error) from error


def _unreachable(name: str | None, error: Exception) -> ConfigError:
    return ConfigError(
        "the network's description cannot be read",
        where=str(name),
        found=first_line_of(error),
        expected="hf-hub: and a repository of the hub, or local-dir: and a folder, with a config.json of timm's",
        fix="check the name, the connection to the hub and its cache (HF_HOME), or name one of timm's networks by "
        "itself, such as tiny_vit_5m_224, which needs no connection",
    )


def _arguments(spec: ModelSpec, num_classes: int | None) -> dict[str, Any]:
    arguments: dict[str, Any] = dict(spec.kwargs)
    if spec.drop_path_rate is not None:
        arguments["drop_path_rate"] = spec.drop_path_rate
    if num_classes is not None:
        arguments["num_classes"] = num_classes
    return arguments


def tiny_vit_arguments(widths: TinyVitWidths) -> dict[str, Any]:
    """Arguments of timm's ``TinyVit``, and of its named models, that give these widths."""
    shape = widths.model_dump()
    if widths.num_heads is None:
        shape["num_heads"] = tuple(max(1, width // HEAD_WIDTH) for width in widths.embed_dims)
    return shape


def _tiny_vit(widths: TinyVitWidths, arguments: dict[str, Any]) -> nn.Module:
    network: nn.Module = TinyVit(**tiny_vit_arguments(widths), **arguments)
    return network


FAMILIES: dict[str, Callable[[Any, dict[str, Any]], nn.Module]] = {"tiny_vit": _tiny_vit}
"""Networks with explicit widths, by the section of ``config.models.ModelSpec`` that gives them.

Each takes its section, and the arguments that all networks share: ``num_classes``, ``drop_path_rate``, ``kwargs``.
"""
