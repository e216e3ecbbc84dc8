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
    """Print a result: its text or, for machines, its values."""
    print_text(text, as_json)
    print_json(values, as_json)


def print_text(text: str, as_json: bool) -> None:
    """Print a text for people, unless JSON is asked for."""
    if not as_json:
        click.echo(text)


def print_json(values: Any, as_json: bool) -> None:
    """Print values in one line of JSON, if that is asked for; what is not finite is null there."""
    if as_json:
        click.echo(json.dumps(_finite(values), allow_nan=False))


def _finite(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _finite(each) for name, each in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(each) for each in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values
