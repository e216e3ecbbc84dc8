"""Loads and validates a recipe from a YAML file and ``--set`` options; all mistakes are reported together."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tinyvit_kd.config.base import Section, section_of
from tinyvit_kd.errors import ConfigError, reason_of

Recipe = TypeVar("Recipe", bound=Section)
_PLACEHOLDER = re.compile(r"<(PATH|TEXT|INTEGER|NUMBER)>")  # as ``config.printed_recipe`` writes them


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 5e-4 is a number; in YAML 1.1 it is a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load_recipe(kind: type[Recipe], path: Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read one recipe.

    Args:
        kind: the stage's configuration class.
        path: the YAML file.
        overrides: texts of the form ``section.key=value``, with the value in YAML.

    Raises:
        ConfigError: the recipe has mistakes; it names each with its path in the file, what was found and what is
            allowed.
    """
    tree = read_yaml(path)
    for text in overrides:
        _apply(tree, text)
    return validate(kind, tree, str(path))


def validate(kind: type[Recipe], tree: dict[str, Any], where: str) -> Recipe:
    """Check plain values against a recipe's class.

    Args:
        kind: the class.
        tree: the values, as read from YAML.
        where: file or store of the values, for messages.

    Raises:
        ConfigError: there are mistakes; it names all of them.
    """
    lines = [f"{field}: still the placeholder {text}" for field, text in _placeholders(tree)]
    try:
        recipe = kind.model_validate(tree)
        if not lines:
            return recipe
    except ValidationError as error:
        details = error.errors(include_url=False)
        lines += [_describe(kind, detail) for detail in details if not _is_placeholder(detail["input"])]
    raise ConfigError(
        f"{len(lines)} mistake{'s' if len(lines) > 1 else ''} in the recipe",
        where=where,
        found="\n  - " + "\n  - ".join(lines),
        fix=f"correct {'these' if len(lines) > 1 else 'it'} and run again; nothing has been started",
    )


def _is_placeholder(value: object) -> bool:
    """Whether a value is one that a printed recipe asks to replace."""
    return isinstance(value, str) and _PLACEHOLDER.fullmatch(value) is not None


def _placeholders(tree: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and text of every placeholder of a printed recipe that nobody has replaced."""
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _placeholders(value, f"{path}.{name}" if path else str(name))
    elif isinstance(tree, list):
        for number, value in enumerate(tree):
            yield from _placeholders(value, f"{path}.{number}")
    elif _is_placeholder(tree):
        yield path, tree


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigError: the file cannot be read, or is not such a YAML file.
    """
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
    """Parse YAML, which can contain nothing but plain values.

    Raises:
        yaml.YAMLError: the text is not YAML, or contains other objects.
    """
    return yaml.load(text, _Loader)


def dump_yaml(recipe: Section) -> str:
    """A recipe as YAML, with all of its fields."""
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
        hint = f"did you mean {close[0]}" if close else f"allowed: {', '.join(sorted(allowed))}"
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
        if isinstance(part, int):  # a position in a list; the list's own field gives the type of its sections
            continue
        field = section.model_fields.get(str(part)) if section is not None else None
        section = section_of(field.annotation) if field is not None else None
    return section


def _description(kind: type[Section], path: tuple[int | str, ...]) -> str:
    section = _section_at(kind, path[:-1])
    field = section.model_fields.get(str(path[-1])) if section is not None else None
    return (field.description if field is not None else None) or "required"
