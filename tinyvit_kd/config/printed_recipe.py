"""A recipe as YAML in which every field is explained, and the JSON schema that editors check recipes with."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

from tinyvit_kd.config.describe import Entry, describe, paragraphs, yaml_value
from tinyvit_kd.config.recipes import STAGE_CONFIGS

WIDTH = 110  # columns of a comment
PLACEHOLDERS = {"string": "<TEXT>", "integer": "<INTEGER>", "number": "<NUMBER>", "boolean": "true"}
HEAD = """\
Replace each <PLACEHOLDER>. All other settings show their defaults, and may be deleted.
Lines that begin with a single # are settings that are switched off. To use one, remove "# " from its lines. If it
says "instead of x", delete x.

Run the recipe with: tinyvit-kd {stage} FILE

Editors such as VS Code (YAML extension) complete and check recipes by their JSON schema, which this command writes:
    tinyvit-kd recipe {stage} --schema > {stage}.schema.json
Then make this line the first one of the recipe:
    # yaml-language-server: $schema={stage}.schema.json
"""


def recipe_text(stage: str) -> str:
    """A stage's recipe as YAML: required fields have placeholders, all others their defaults."""
    kind = STAGE_CONFIGS[stage]
    title = " ".join(paragraphs(kind)).replace("`", "")
    lines = [f"## {line}".rstrip() for line in (*_wrapped(title), "", *HEAD.format(stage=stage).splitlines())]
    for entry in sorted(describe(kind), key=lambda entry: (entry.name != "stage", not entry.required)):
        lines += ["", *_lines(entry)]
    return "\n".join(lines) + "\n"


def recipe_schema(stage: str) -> dict[str, Any]:
    """The JSON schema of a stage's recipes; its descriptions also name the units."""
    kind = STAGE_CONFIGS[stage]
    schema = kind.model_json_schema()
    sections = schema.get("$defs", {})
    _add_descriptions(schema["properties"], describe(kind), sections)
    for section in (schema, *sections.values()):
        if "description" in section:
            section["description"] = section["description"].replace("``", "`")
    about = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"The first line of a recipe names this file: # yaml-language-server: $schema={stage}.schema.json",
        "title": f"Recipe for tinyvit-kd {stage}",
    }
    return about | {name: value for name, value in schema.items() if name not in about}


def _lines(entry: Entry) -> list[str]:
    """A field's meaning as a comment, then the field itself, which is also a comment if it is switched off."""
    setting = [f"{entry.name}:{_value(entry)}{_remark(entry)}", *_inside(entry)]
    if entry.is_optional_section or entry.replaces:
        setting = [f"# {line}" for line in setting]
    return [*(f"## {line}" for line in _wrapped(entry.meaning, 2 * len(entry.path))), *setting]


def _wrapped(text: str, indentation: int = 0) -> list[str]:
    return textwrap.wrap(text, WIDTH - indentation, break_on_hyphens=False)


def _inside(entry: Entry) -> list[str]:
    lines = [line for each in entry.entries for line in _lines(each)]
    return _indented(["-", *_indented(lines)]) if entry.is_list else _indented(lines)


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _value(entry: Entry) -> str:
    if entry.section:
        return ""
    if "const" in entry.schema:
        return f" {entry.schema['const']}"
    return f" {_placeholder(entry.schema) if _is_filled_in(entry) else yaml_value(entry.default)}"


def _is_filled_in(entry: Entry) -> bool:
    return bool(entry.required or entry.replaces or entry.replaced_by or entry.is_suggested)


def _placeholder(schema: dict[str, Any]) -> str:
    schema = schema.get("anyOf", [schema])[0]
    if schema.get("format") == "path":
        return "<PATH>"
    if "prefixItems" in schema:
        return f"[{', '.join(_placeholder(each) for each in schema['prefixItems'])}]"
    return PLACEHOLDERS[schema["type"]]


def _remark(entry: Entry) -> str:
    parts = ["required"] if entry.required else []
    if entry.replaces:
        parts.append(f"instead of {entry.replaces}")
    if entry.replaced_by and not entry.section:
        parts.append(f"or {' or '.join(entry.replaced_by)}")
    if not entry.section and "const" not in entry.schema:
        parts.append(entry.values.removesuffix(" or null") if _is_filled_in(entry) else entry.values)
    if entry.unit:
        parts.append(f"unit: {entry.unit}")
    remark = "; ".join(parts)
    return f"  # {remark}" if remark else ""


def _add_descriptions(properties: dict[str, Any], entries: tuple[Entry, ...], sections: dict[str, Any]) -> None:
    for entry in entries:
        node = properties[entry.name]
        node.pop("title", None)  # pydantic's title only repeats the name
        node["description"] = f"{entry.meaning}. Unit: {entry.unit}." if entry.unit else f"{entry.meaning}."
        if entry.section:
            _add_descriptions(sections[entry.section.__name__]["properties"], entry.entries, sections)
