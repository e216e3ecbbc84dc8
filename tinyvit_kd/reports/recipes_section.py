"""What differs between recipes, field by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tinyvit_kd.analysis.jobs.run_folder import settings_of
from tinyvit_kd.reports.content import Report, ReportedRun
from tinyvit_kd.reports.markup import Content, Html, element, folded, joined, table
from tinyvit_kd.reports.results_section import run_name
from tinyvit_kd.reports.words import said
from tinyvit_kd.runtime.wording import counted

_ABSENT = object()


def recipes_section(report: Report) -> Html:
    """A row for each field that differs; fields that only some recipes have are folded away."""
    runs = [run for run in report.runs if run.recipe]
    if len(runs) < 2:
        return element("p", "There are not two recipes to compare.")
    fields = [dict(settings_of(run.recipe)) for run in runs]
    names = differing(fields)
    same = len({name for each in fields for name in each}) - len(names)
    if not names:
        return element("p", f"The recipes are the same in all {counted(same, 'field')}.")
    numbers = [report.runs.index(run) for run in runs]
    head: list[Content] = ["Field", *(run_name(number, run) for number, run in zip(numbers, runs, strict=True))]
    in_all = [name for name in names if all(name in each for each in fields)]
    in_some = [name for name in names if name not in in_all]
    caption = (
        f"{counted(len(in_all), 'field')} that all recipes have differ, and {same:,} are the same. Values other "
        "than the first are marked."
    )
    parts = [table(caption, head, [_row(name, fields) for name in in_all])] if in_all else []
    if in_some:
        caption = "Fields that only some of the recipes have, as those of different stages"
        rows = [_row(name, fields) for name in in_some]
        parts.append(
            folded(f"{counted(len(in_some), 'field')} that only some recipes have", table(caption, head, rows))
        )
    return joined(*parts)


def differing(fields: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of fields that are not the same in all, in the order in which they come first."""
    names = {name: None for each in fields for name in each}
    return [name for name in names if any(_value(each, name) != _value(fields[0], name) for each in fields)]


def _value(fields: Mapping[str, Any], name: str) -> Any:
    value = fields.get(name, _ABSENT)
    return (type(value), value) if isinstance(value, bool) else value  # True is not 1


def _row(name: str, fields: Sequence[Mapping[str, Any]]) -> list[Content]:
    first = next(each for each in fields if name in each)
    return [element("code", name), *(_cell_of(name, each, first) for each in fields)]


def _cell_of(name: str, fields: Mapping[str, Any], first: Mapping[str, Any]) -> Html:
    """A value, marked if it is not the first one. A field that is not there is neither."""
    if name not in fields:
        return element("td", "–", class_="same quiet", title="not in this recipe")
    return element("td", said(fields[name]), class_="same" if _value(fields, name) == _value(first, name) else "other")


def recipe_text(run: ReportedRun) -> str:
    """A run's recipe, as YAML."""
    from tinyvit_kd.config.yaml_text import yaml_text

    return yaml_text(dict(run.recipe))
