"""What differs between recipes, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tinyvit_kd.reports.content import Report, ReportedRun
from tinyvit_kd.reports.markup import Content, Html, element, table
from tinyvit_kd.reports.results_section import run_name
from tinyvit_kd.reports.words import said
from tinyvit_kd.runtime.wording import counted

_ABSENT = object()


def recipes_section(report: Report) -> Html:
    """A row for each field that differs; values other than the first run's are marked."""
    runs = [run for run in report.runs if run.recipe]
    if len(runs) < 2:
        return element("p", "There are not two recipes to compare.")
    fields = [dict(flat(run.recipe)) for run in runs]
    names = differing(fields)
    same = len({name for each in fields for name in each}) - len(names)
    if not names:
        return element("p", f"The recipes are the same in all {counted(same, 'field')}.")
    numbers = [report.runs.index(run) for run in runs]
    caption = (
        f"{counted(len(names), 'field')} differ, {same:,} are the same in all recipes. Values other than those of "
        f"{runs[0].label} are marked; “not there” is a field that a stage does not have."
    )
    head: list[Content] = ["Field", *(run_name(number, run) for number, run in zip(numbers, runs, strict=True))]
    return table(caption, head, [_row(name, fields) for name in names])


def flat(tree: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of each field of a recipe; lists are values. The folder of the run is none of its fields."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{above}{name}.")
        elif above or name != "output":
            yield f"{above}{name}", value


def differing(fields: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of fields that are not the same in all, in the order in which they come first."""
    names = {name: None for each in fields for name in each}
    return [name for name in names if any(_value(each, name) != _value(fields[0], name) for each in fields)]


def _value(fields: Mapping[str, Any], name: str) -> Any:
    value = fields.get(name, _ABSENT)
    return (type(value), value) if isinstance(value, bool) else value  # True is not 1


def _row(name: str, fields: Sequence[Mapping[str, Any]]) -> list[Content]:
    cells = [
        element(
            "td",
            "not there" if name not in each else said(each[name]),
            class_="same" if _value(each, name) == _value(fields[0], name) else "other",
        )
        for each in fields
    ]
    return [element("code", name), *cells]


def recipe_text(run: ReportedRun) -> str:
    """A run's recipe, as YAML."""
    from tinyvit_kd.config.yaml_text import yaml_text

    return yaml_text(dict(run.recipe))
