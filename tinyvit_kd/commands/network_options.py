"""The options by which commands name a network that is not a recipe's: whatever its file does not say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tinyvit_kd.config.models import ModelSource

Function = TypeVar("Function", bound=Callable[..., Any])
_THREE = (float, float, float)


class _Named(click.types.StringParamType):
    """A path or a timm name, which is not empty: ``"$UNSET"`` would otherwise be the working directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Refuse what is empty; the rest is click's."""
        if value == "":
            self.fail("it is empty", param, ctx)
        return str(super().convert(value, param, ctx))


def network_options(function: Function) -> Function:
    """The argument MODEL and options that ``model_source`` takes."""
    for option in (
        click.option("--std", type=_THREE, metavar="R G B", help="Deviation of the input, 0 to 1."),
        click.option("--mean", type=_THREE, metavar="R G B", help="Mean of the input, 0 to 1."),
        click.option("--image-size", type=click.IntRange(1), help="Side of the input, pixels."),
        click.option("--num-classes", type=click.IntRange(2), help="Number of classes."),
        click.option(
            "--class-list",
            metavar="FILE",
            help="Its classes: a file with one per line, or one of timm's lists, such as imagenet.",
        ),
        click.option("--pretrained", is_flag=True, help="MODEL is a name of timm or torchvision, with its weights."),
        click.option(
            "--library",
            default="timm",
            show_default=True,
            type=click.Choice(("timm", "torchvision", "transformers", "call")),
            help="Whose network it is. transformers: MODEL is a folder or a name of the hub. call: the network is made "
            "by a function of yours, whose dotted name is MODEL or --name.",
        ),
        click.option("--name", help="Name of the network in that library, if MODEL is a file that does not name one."),
    ):
        function = option(function)
    return click.argument("model", type=_Named())(function)


def model_source(model: str, pretrained: bool, library: str = "timm", **options: Any) -> ModelSource:
    """What the options say of a network.

    Args:
        model: path of a folder or file; with ``pretrained``, a name of timm or torchvision.
        library: whose network it is: timm, torchvision, transformers or call, a function of the user's own.

    Raises:
        ConfigError: they contradict each other.
    """
    from tinyvit_kd.config.load import validate
    from tinyvit_kd.config.models import ModelSource
    from tinyvit_kd.errors import ConfigError

    given = {
        name: list(each) if isinstance(each, tuple) else each for name, each in options.items() if each is not None
    }
    field = "name" if library == "timm" else library
    if "name" in given:
        given[field] = given.pop("name")
    if library == "transformers" and field in given:
        raise ConfigError(
            "with --library transformers, MODEL is the network",
            found=f"{model} and --name {given[field]}",
            fix="leave --name out",
        )
    if library == "torchvision" and field not in given and not pretrained:
        raise ConfigError(
            "--library torchvision needs a name",
            found=f"{model}",
            fix="give --name where MODEL is a file of weights, or --pretrained where it is the name",
        )
    if library == "call" and field not in given and Path(model).exists():
        raise ConfigError(
            "--library call needs the function's name",
            found=model,
            expected="a dotted name, package.module.function",
            fix="give it by --name, as MODEL is a file of weights",
        )
    if not pretrained:
        is_network = library == "transformers" or (library == "call" and field not in given)
        return validate(ModelSource, {library if is_network else "model": model, **given}, "the options")
    if field in given:
        raise ConfigError(
            "with --pretrained, MODEL is the name",
            found=f"{model} and --name {given[field]}",
            fix="leave --name out" if not Path(model).exists() else "leave --pretrained out",
        )
    return validate(ModelSource, {field: model, "pretrained": True, **given}, "the options")
