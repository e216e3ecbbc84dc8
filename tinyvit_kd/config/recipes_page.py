"""Generates docs/RECIPES.md from the fields of recipes: ``python -m tinyvit_kd.config.recipes_page`` rewrites it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tinyvit_kd.config.base import Section
from tinyvit_kd.config.describe import Entry, describe, paragraphs, yaml_value
from tinyvit_kd.config.recipes import STAGE_CONFIGS

COMMAND = "python -m tinyvit_kd.config.recipes_page"
PAGE = Path(__file__).resolve().parents[2] / "docs" / "RECIPES.md"
HEAD = f"""\
# Recipes

This page is generated from the fields in `tinyvit_kd/config/`. To change it, edit the fields' descriptions and run
`{COMMAND}`. A test checks that the page is up to date.

A recipe is one YAML file. It holds everything that a stage does, so a run can be repeated from its recipe.

* `tinyvit-kd recipe pretrain > pretrain.yaml` writes a recipe with every field, its default and its meaning. Fill in
  the placeholders and delete what you do not change. `configs/` has recipes that are ready to run.
* `tinyvit-kd recipe pretrain --schema > pretrain.schema.json` writes the JSON schema. Editors such as VS Code (with the
  YAML extension) complete and check a recipe whose first line is
  `# yaml-language-server: $schema=pretrain.schema.json`.
* `--set section.key=value` overrides a field on the command line, for example `--set optim.base_lr=1e-3`.
* **A recipe can run code, so read a stranger's before you use it.** `pipe:COMMAND` in a path of shards runs the
  command, `views.transform` imports and calls what it names, a `name` such as `hf-hub:OWNER/NAME` and `pretrained`
  fetch from the network, and `output` says where files are written. Shards, stores and model files cannot do that
  ([Faults](FAULTS.md#files-from-strangers)).
* Unknown keys are errors. All mistakes in a recipe are reported together, before anything starts.

In the tables, `required` fields have no default. `null` means that the field is not set; its meaning says what happens
then. A section that is not required may be left out: its fields then have their defaults. A section whose default is
`null` or `[]` is left out by default.
"""


def page() -> str:
    """The whole page as Markdown."""
    contents = [f"* [{stage}](#{_anchor(stage)})" for stage in STAGE_CONFIGS]
    lines = [HEAD, *contents]
    for stage, kind in STAGE_CONFIGS.items():
        lines += _section(stage, stage, kind, describe(kind))
    return "\n".join(lines) + "\n"


def _section(stage: str, title: str, kind: type[Section], entries: tuple[Entry, ...]) -> Iterator[str]:
    yield f"\n{'##' if title == stage else '###'} {title}"
    for paragraph in paragraphs(kind):
        yield f"\n{paragraph}"
    yield "\n| field | type | default | unit | meaning |\n|---|---|---|---|---|"
    for entry in entries:
        cells = (f"`{entry.dotted}`", _type(stage, entry), _default(entry), entry.unit or "", entry.meaning)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
    for entry in entries:
        if entry.section:
            yield from _section(stage, _title(stage, entry), entry.section, entry.entries)


def _type(stage: str, entry: Entry) -> str:
    if entry.section:
        return f"[{entry.values}](#{_anchor(_title(stage, entry))})"
    return entry.values


def _default(entry: Entry) -> str:
    if entry.required:
        return "required"
    if entry.section:
        return ("`[]`" if entry.is_list else "`null`") if entry.is_optional_section else ""
    return f"`{yaml_value(entry.default)}`"


def _title(stage: str, entry: Entry) -> str:
    return f"{stage}: {entry.dotted}"


def _anchor(title: str) -> str:
    """The name that GitHub gives to a heading."""
    return "".join(letter for letter in title.lower().replace(" ", "-") if letter.isalnum() or letter in "-_")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
