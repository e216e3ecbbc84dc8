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
        click.option("--pretrained", is_flag=True, help="MODEL is a timm name, whose weights are fetched."),
        click.option("--name", help="timm name of the network, if MODEL does not name one."),
    ):
        function = option(function)
    return click.argument("model", type=_Named())(function)


def model_source(model: str, pretrained: bool, **options: Any) -> ModelSource:
    """What the options say of a network.

    Args:
        model: path of a folder or file; with ``pretrained``, a timm name.

    Raises:
        ConfigError: they contradict each other.
    """
    from tinyvit_kd.config.load import validate
    from tinyvit_kd.config.models import ModelSource
    from tinyvit_kd.errors import ConfigError

    given = {
        name: list(each) if isinstance(each, tuple) else each for name, each in options.items() if each is not None
    }
    if not pretrained:
        return validate(ModelSource, {"model": model, **given}, "the options")
    if "name" in given:
        raise ConfigError(
            "with --pretrained, MODEL is the name",
            found=f"{model} and --name {given['name']}",
            fix="leave --name out" if not Path(model).exists() else "leave --pretrained out",
        )
    return validate(ModelSource, {"name": model, "pretrained": True, **given}, "the options")
