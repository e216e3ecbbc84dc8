"""How results are printed: for people, or as JSON for machines."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def json_option(function: Function) -> Function:
    """``--json``, given to the command as ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for machines.")(function)


def print_result(text: str, values: Any, as_json: bool) -> None:
    """Print a result: its text or, for machines, its values in one line of JSON; what is not finite is null there."""
    click.echo(json.dumps(_finite(values), allow_nan=False) if as_json else text)


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _finite(each) for name, each in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(each) for each in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
