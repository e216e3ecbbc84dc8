"""From a YAML file and ``--set`` options to a validated recipe; all mistakes are reported together."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tinyvit_kd.config.base import Section, section_of
from tinyvit_kd.errors import ConfigError, reason_of

Recipe = TypeVar("Recipe", bound=Section)


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads 5e-4, which YAML 1.1 takes for a string, as a number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_recipe(kind: type[Recipe], path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read one recipe.

    Args:
        kind: the stage's configuration class.
        path: the YAML file.
        overrides: ``section.key=value`` texts, the value in YAML.

    Raises:
        ConfigError: naming every mistake with its path in the file, what was found and what is allowed.
    """
    tree = read_yaml(path)
    for text in overrides:
        _apply(tree, text)
    return validate(kind, tree, str(path))


def validate(kind: type[Recipe], tree: dict[str, Any], where: str) -> Recipe:
    """Check a tree of plain values against a recipe's class."""
    try:
        return kind.model_validate(tree)
    except ValidationError as error:
        lines = [_describe(kind, detail) for detail in error.errors(include_url=False)]
        raise ConfigError(
            f"{len(lines)} mistake{'s' if len(lines) > 1 else ''} in the recipe",
            where=where,
            found="\n  - " + "\n  - ".join(lines),
            fix="correct these and run again; nothing has been started",
        ) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file whose top level is a mapping."""
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError("cannot read the recipe", where=str(path), found=reason_of(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("the recipe is not valid YAML", where=str(path), found=" ".join(str(error).split())) from None
    if not isinstance(tree, dict):
        raise ConfigError(
            "the recipe is not a mapping",
            where=str(path),
            found=type(tree).__name__,
            expected="keys and values",
        )
    return tree


def parse_yaml(text: str) -> Any:
    """Parse YAML without ever constructing more than plain values."""
    return yaml.load(text, _Loader)


def dump_yaml(recipe: Section) -> str:
    """The recipe as YAML, every field written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def _apply(tree: dict[str, Any], text: str) -> None:
    path, separator, value = text.partition("=")
    keys = path.strip().split(".")
    if not separator or not all(keys):
        raise ConfigError("--set takes section.key=value", found=text, expected="for example optim.base_lr=1e-3")
    node = tree
    for key in keys[:-1]:
        child = node.get(key)
        node[key] = copy.deepcopy(child) if isinstance(child, dict) else {}
        node = node[key]
    try:
        node[keys[-1]] = parse_yaml(value)
    except yaml.YAMLError:
        raise ConfigError("the value of --set is not valid YAML", found=text) from None


def _describe(kind: type[Section], detail: ErrorDetails) -> str:
    path = ".".join(str(part) for part in detail["loc"]) or "(top level)"
    if detail["type"] == "extra_forbidden":
        section = _section_at(kind, detail["loc"][:-1])
        allowed = list(section.model_fields) if section is not None else []
        close = difflib.get_close_matches(str(detail["loc"][-1]), allowed, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(sorted(allowed))}"
        return f"{path}: unknown key; {hint}"
    if detail["type"] == "missing":
        return f"{path}: missing; {_description(kind, detail['loc'])}"
    # A validator of ours raises ValueError, whose text pydantic prefixes.
    message = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else detail["msg"]
    if isinstance(detail["input"], dict):
        return f"{path}: {message}"
    return f"{path}: found {detail['input']!r}; {message}"


def _section_at(kind: type[Section], path: tuple[int | str, ...]) -> type[Section] | None:
    section: type[Section] | None = kind
    for part in path:
        if isinstance(part, int):  # a place in a list, whose sections the list's own type names
            continue
        field = section.model_fields.get(str(part)) if section is not None else None
        section = section_of(field.annotation) if field is not None else None
    return section


def _description(kind: type[Section], path: tuple[int | str, ...]) -> str:
    section = _section_at(kind, path[:-1])
    field = section.model_fields.get(str(path[-1])) if section is not None else None
    return (field.description if field is not None else None) or "required"
