"""What every field of a recipe says about itself: the source of printed recipes, JSON schemas and docs/RECIPES.md."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from tinyvit_kd.config.base import Section, section_of
from tinyvit_kd.config.yaml_text import yaml_text


@dataclass(frozen=True)
class Entry:
    """One field of a recipe.

    Attributes:
        path: the section's path and the field's name, for example ``("student", "tiny_vit", "depths")``.
        meaning: its description.
        values: its type and bounds in words, for example ``integer >= 1 or null``.
        unit: what it is measured in, if it measures something.
        required: whether a recipe must contain it.
        default: its default as a plain value; None for required fields and for sections.
        schema: its JSON schema.
        replaces: the field that this one can be given instead of.
        replaced_by: the fields that can be given instead of this one.
        is_suggested: whether it stands for several, one of which a recipe must contain.
        section: the section that it holds, if it holds one.
        is_list: whether it holds a list of such sections.
        entries: the fields of that section.
    """

    path: tuple[str, ...]
    meaning: str
    values: str
    unit: str | None
    required: bool
    default: Any
    schema: dict[str, Any] = field(repr=False)
    replaces: str | None = None
    replaced_by: tuple[str, ...] = ()
    is_suggested: bool = False
    section: type[Section] | None = None
    is_list: bool = False
    entries: tuple[Entry, ...] = ()

    @property
    def name(self) -> str:
        """The field's own name."""
        return self.path[-1]

    @property
    def dotted(self) -> str:
        """The path in words: ``student.tiny_vit.depths``, or ``store.others[].path`` inside a list."""
        return ".".join(self.path)

    @property
    def is_optional_section(self) -> bool:
        """Whether it holds sections that a recipe does not have by default."""
        return self.section is not None and (self.is_list or "anyOf" in self.schema)


def describe(kind: type[Section], parent: tuple[str, ...] = ()) -> tuple[Entry, ...]:
    """All fields of a section in the order of its class, with the fields of the sections in it.

    Args:
        kind: the section's class.
        parent: path of the section; empty for a whole recipe.
    """
    schema = kind.model_json_schema()
    required = schema.get("required", [])
    return tuple(
        _entry(kind, name, info, schema["properties"][name], name in required, parent)
        for name, info in kind.model_fields.items()
    )


def _entry(
    kind: type[Section], name: str, info: FieldInfo, schema: dict[str, Any], required: bool, parent: tuple[str, ...]
) -> Entry:
    section = section_of(info.annotation)
    is_list = schema.get("type") == "array"
    path = (*parent, name)
    inner_path = (*parent, f"{name}[]") if is_list else path
    first, *others = kind.alternatives or (None,)
    return Entry(
        path=path,
        meaning=info.description or "",
        values="list of sections" if section and is_list else values_in_words(schema),
        unit=schema.get("unit"),
        required=required,
        default=None if required or section else to_jsonable_python(info.get_default(call_default_factory=True)),
        schema=schema,
        replaces=first if name in others else None,
        replaced_by=kind.alternatives[1:] if name == first else (),
        is_suggested=name == kind.suggested,
        section=section,
        is_list=is_list and section is not None,
        entries=describe(section, inner_path) if section else (),
    )


def values_in_words(schema: dict[str, Any]) -> str:
    """A field's JSON schema in words: ``list of 3 numbers``, ``one of soft, hard, token``, ``integer >= 1 or null``."""
    if "anyOf" in schema:
        return " or ".join(values_in_words(each) for each in schema["anyOf"])
    if "$ref" in schema:
        return "section"
    if "const" in schema:
        return f"only {schema['const']}"
    if "enum" in schema:
        return f"one of {', '.join(map(yaml_value, schema['enum']))}"
    if schema["type"] == "array":
        return _list_in_words(schema)
    names = {"string": "text", "boolean": "true or false", "object": "mapping"}
    name = names.get(schema["type"], schema["type"])
    return "path" if schema.get("format") == "path" else f"{name}{_bounds_in_words(schema)}"


def yaml_value(value: Any) -> str:
    """A plain value as YAML in one line."""
    return yaml_text([value], default_flow_style=True, width=10**6).strip()[1:-1]


def paragraphs(section: type[Section]) -> list[str]:
    """The docstring of a section, one line per paragraph, with Markdown's backticks."""
    text = inspect.cleandoc(section.__doc__ or "").replace("``", "`")
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]


def _list_in_words(schema: dict[str, Any]) -> str:
    items = schema.get("prefixItems")
    if items:
        return f"list of {len(items)} {items[0]['type']}s{_bounds_in_words(items[0])}"
    each = schema.get("items", {})
    is_number = each.get("type") in ("integer", "number")
    return f"list of {each['type']}s{_bounds_in_words(each)}" if is_number else "list"


def _bounds_in_words(schema: dict[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[name]:g}" for name, sign in signs.items() if name in schema]
    return f" {' and '.join(bounds)}" if bounds else ""
