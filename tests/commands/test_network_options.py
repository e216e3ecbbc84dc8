"""The options of ``predict`` and ``export`` name a network as a recipe would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tinyvit_kd.commands.network_options import model_source
from tinyvit_kd.errors import ConfigError

MEANT: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a file": ({}, {"model": "it"}),
    "timm's file": ({"name": "resnet18"}, {"model": "it", "name": "resnet18"}),
    "timm's weights": ({"pretrained": True}, {"name": "it", "pretrained": True}),
    "torchvision's weights": (
        {"library": "torchvision", "pretrained": True},
        {"torchvision": "it", "pretrained": True},
    ),
    "torchvision's file": ({"library": "torchvision", "name": "vgg11"}, {"model": "it", "torchvision": "vgg11"}),
    "transformers": ({"library": "transformers"}, {"transformers": "it"}),
    "a function": ({"library": "call"}, {"call": "it"}),
    "a function's file": ({"library": "call", "name": "a.b"}, {"model": "it", "call": "a.b"}),
}


@pytest.mark.parametrize(("options", "fields"), MEANT.values(), ids=MEANT)
def test_options_say_what_a_recipe_would(options: dict[str, Any], fields: dict[str, Any]) -> None:
    source = model_source("it", **{"pretrained": False, "name": None} | options)
    assert source.model_dump(exclude_unset=True) == fields


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two names": (
        {"library": "torchvision", "pretrained": True, "name": "vgg11"},
        "with --pretrained, MODEL is the name",
    ),
    "two folders": ({"library": "transformers", "name": "other"}, "with --library transformers, MODEL is the network"),
    "a name alone": ({"library": "torchvision"}, "--library torchvision needs a name"),
}


@pytest.mark.parametrize(("options", "told"), REFUSED.values(), ids=REFUSED)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        model_source("it", **{"pretrained": False, "name": None} | options)


def test_a_file_for_a_function_needs_the_functions_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs the function's name") as caught:
        model_source(str(tmp_path), library="call", pretrained=False, name=None)
    assert "--name" in caught.value.fix
