"""Networks with the weights that timm fetches for their names, and what can go wrong with that."""

from __future__ import annotations

import difflib
from typing import Any

import timm
import torch
from torch import nn

from tinyvit_kd.errors import ConfigError
from tinyvit_kd.models.differences import in_words
from tinyvit_kd.models.families import create
from tinyvit_kd.runtime.foreign_errors import first_line_of, refused_tensors
from tinyvit_kd.runtime.wording import printable

_WHAT = "timm cannot create the network with its pretrained weights"
_SHOWN = 6  # names in a message


def fetch_pretrained(name: str, image_size: int | None, kwargs: dict[str, Any], section: str) -> nn.Module:
    """A network with timm's weights for its name, with its whole head.

    Args:
        name: timm's, with or without the tag of its weights; or hf-hub: or local-dir: and where it is described.
        image_size: side of the input, pixels; None: the model's own.
        kwargs: further arguments of ``timm.create_model``.
        section: of the recipe with a dot behind it, for messages; empty where the fields are at the top.

    Raises:
        ConfigError: timm knows no such network or no weights of it, the hub cannot be reached, or the weights do not
            fit what the arguments build.
    """
    if ":" not in name and "pretrained_cfg" not in kwargs:
        _require_known(name, section)
    if "num_classes" in kwargs:
        # With another number than its weights', timm would draw a random head and let everything else go unchecked.
        raise ConfigError(
            "the number of classes of pretrained weights is their own",
            where=f"{section}kwargs.num_classes",
            found=str(kwargs["num_classes"]),
            fix="leave it out",
        )
    try:
        with torch.random.fork_rng(devices=[]):
            return create(name, image_size, {**kwargs, "pretrained": True})
    except Exception as error:  # the hub raises errors of many libraries
        raise _not_created(name, kwargs, section, error) from error


def names_a_network(text: str) -> bool:
    """Whether a text is a name that timm could fetch weights for."""
    return text.startswith("hf-hub:") or timm.is_model(text.partition(".")[0])


def _not_created(name: str, kwargs: dict[str, Any], section: str, error: Exception) -> ConfigError:
    refused = refused_tensors(error)
    by_arguments = refused is not None or (isinstance(error, TypeError) and bool(kwargs))
    found = first_line_of(error) if refused is None else f"the weights do not fit: {in_words(*refused)}"
    return ConfigError(
        _WHAT,
        where=f"{section}name: {name}",
        found=printable(found),
        fix=f"correct or leave out the arguments of the network ({section}kwargs)"
        if by_arguments
        else "check the name, the connection to the hub and its cache (HF_HOME, a folder that can be written), or give "
        "a local file",
    )


def _require_known(name: str, section: str) -> None:
    architecture, _, tag = name.partition(".")
    where = f"{section}name: {name}"
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=3)
        raise ConfigError(
            _WHAT,
            where=where,
            found="timm knows no network of this name",
            expected=" or ".join(close),
            fix="python -c 'import timm; print(timm.list_models(pretrained=True))' lists the names with weights",
        )
    with_weights = [each for each in timm.list_models(pretrained=True) if each.partition(".")[0] == architecture]
    if name in with_weights or (not tag and with_weights):
        return
    more = f" and {len(with_weights) - _SHOWN} more" if len(with_weights) > _SHOWN else ""
    raise ConfigError(
        _WHAT,
        where=where,
        found=f"timm has no weights of {architecture}" + (f" with the tag {tag}" if tag and with_weights else ""),
        expected=" or ".join(with_weights[:_SHOWN]) + more,
        fix="choose one that has" if with_weights else "give a local file of weights",
    )
