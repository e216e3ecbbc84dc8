"""Loads and validates a recipe from a YAML file and ``--set`` options; all mistakes are reported together."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from tinyvit_kd.config.base import Section, section_of
from tinyvit_kd.config.recipes import STAGE_CONFIGS
from tinyvit_kd.config.yaml_text import MAX_CHARACTERS, parse_yaml, yaml_text
from tinyvit_kd.errors import ConfigError, reason_of

Recipe = TypeVar("Recipe", bound=Section)
_LISTED = 30  # mistakes that are named; the others are counted
_SHOWN = 200  # characters of a value, or of a --set, in a message
_PLACEHOLDER = re.compile(r"<(PATH|TEXT|INTEGER|NUMBER)>")  # as ``config.printed_recipe`` writes them


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
        apply_override(tree, text)
    _require_stage(kind, tree, path)
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
        found="\n  - " + "\n  - ".join(_first(lines)),
        fix=f"correct {'these' if len(lines) > 1 else 'it'} and run again; nothing has been started",
    )


def _first(lines: list[str]) -> list[str]:
    more = len(lines) - _LISTED
    return lines if more <= 1 else [*lines[:_LISTED], f"… and {more:,} more"]


def _require_stage(kind: type[Section], tree: dict[str, Any], path: Path) -> None:
    """Refuse a recipe of another stage for what it is: all of its other sections would be mistakes, too.

    Raises:
        ConfigError: it names another stage or, where it names none, has the sections of another.
    """
    (wanted,) = get_args(kind.model_fields["stage"].annotation)
    named = tree.get("stage")
    if named == wanted:
        return
    if isinstance(named, str) and named in STAGE_CONFIGS:
        meant, found = named, f"stage: {named}"
    else:
        foreign = [key for key in tree if key not in kind.model_fields]
        fields = {stage: other.model_fields.keys() for stage, other in STAGE_CONFIGS.items()}
        fitting = [stage for stage, names in fields.items() if tree.keys() <= names]
        # A recipe that has nothing of what another one of these has besides is not meant as that one.
        fitting = [stage for stage in fitting if not any(fields[other] < fields[stage] for other in fitting)]
        if not foreign or len(fitting) != 1 or "stage" in tree:
            return
        meant, found = fitting[0], f"no stage, but {', '.join(map(str, foreign))}, as in recipes for {fitting[0]}"
    raise ConfigError(
        f"this is a recipe for {meant}, not for {wanted}",
        where=str(path),
        found=found,
        expected=f"stage: {wanted}",
        fix=f"run tinyvit-kd {meant} {path}, or give a recipe for {wanted} (tinyvit-kd recipe {wanted} prints one)",
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
        ConfigError: the file cannot be read, or is not such a YAML file (see ``parse_yaml``).
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(MAX_CHARACTERS + 1)  # of a longer one, enough to be refused
    except OSError as error:
        raise ConfigError(
            "cannot read the recipe",
            where=str(path),
            found=reason_of(error),
            fix="check its path; tinyvit-kd recipe and the name of a stage print one to begin with",
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            "the recipe is not text in UTF-8",
            where=str(path),
            found=f"byte {error.object[error.start]:#04x} at position {error.start:,}",
            fix="check whether this is the file that you mean, or save it as UTF-8",
        ) from None
    try:
        tree = parse_yaml(text)
    except ConfigError as error:
        raise error.with_context(where=str(path)) from None
    if not isinstance(tree, dict):
        raise ConfigError(
            "the recipe is not a mapping",
            where=str(path),
            found="an empty file" if tree is None else f"a {type(tree).__name__}",
            expected="keys and values, such as stage: pretrain",
        )
    return tree


def dump_yaml(recipe: Section) -> str:
    """A recipe as YAML, with all of its fields."""
    return yaml_text(recipe.model_dump(mode="json"))


def apply_override(tree: dict[str, Any], text: str) -> None:
    """Set a field of plain values, as ``--set section.key=value`` does.

    Raises:
        ConfigError: the text has another form.
    """
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
    except ConfigError as error:
        raise error.with_context(where=f"--set {text[:_SHOWN]}") from None


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
    found = repr(detail["input"])
    return f"{path}: found {found if len(found) <= _SHOWN else f'{found[:_SHOWN]}…'}; {message}"


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
