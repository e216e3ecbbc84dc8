"""The page of what is known: ratios first, and no more of one part than can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.summary import FIGURES, Summary, is_ratio, parts


def page(folder: Path, result: dict[str, Any]) -> list[str]:
    Summary(folder).note("steps", {"state": "done", "seconds": 3.0, "result": result})
    return (folder / "summary.md").read_text().splitlines()


def rows_of(lines: list[str], title: str) -> list[str]:
    """The rows below a heading, without the table's head."""
    after = lines[lines.index(f"## {title}") + 1 :]
    ends = [place for place, line in enumerate(after) if line.startswith("## ")]
    return [line for line in after[: ends[0] if ends else None] if line.startswith("| ")][1:]


def test_ratios_are_told_from_other_figures_and_from_what_is_none(tmp_path: Path) -> None:
    result = {
        "machine": {"cores": 2},
        "settings": {"over": 3},
        "over_bare": 0.123456,
        "images_per_second": {"batch 4": 31, "of|which": "some"},
        "views_equal": True,
        "tests": [1, 2],
        "none": None,
    }
    lines = page(tmp_path, result)
    assert rows_of(lines, "Ratios and verdicts") == ["| steps | over_bare | 0.1235 |", "| steps | views_equal | True |"]
    assert rows_of(lines, "Other figures") == [
        "| steps | images_per_second, batch 4 | 31 |",
        "| steps | images_per_second, of/which | some |",
    ]


def test_of_many_figures_of_one_part_the_first_are_shown(tmp_path: Path) -> None:
    many = {f"batch {number}": 1.5 for number in range(FIGURES + 3)}
    rows = rows_of(page(tmp_path, {"over_bare": many, "over_timm": {"batch 1": 2.0}}), "Ratios and verdicts")
    assert len(rows) == FIGURES + 2
    assert rows[-2:] == ["| steps | over_bare: 3 more | see steps.json |", "| steps | over_timm, batch 1 | 2 |"]


def test_ratios_of_single_cases_are_shown_where_there_are_no_others() -> None:
    cases = {"one": {"equal": True, "rate": 3}}
    assert dict(parts({"cases": cases}, ratios=True)) == {"cases": [("cases, one, equal", True)]}
    assert dict(parts({"cases": cases, "over": 2}, ratios=True)) == {"over": [("over", 2)]}
    assert dict(parts({"cases": cases, "over": 2}, ratios=False)) == {"cases": [("cases, one, rate", 3)], "over": []}


def test_a_folder_that_an_earlier_call_wrote_is_gone_on_with(tmp_path: Path) -> None:
    page(tmp_path, {"over_bare": 1.0})
    again = Summary(tmp_path)
    again.note("trace", {"state": "not run", "why": "no time"})
    assert set(Summary(tmp_path).steps) == {"steps", "trace"}


def test_a_damaged_summary_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"steps": ')
    assert Summary(tmp_path).steps == {}


@pytest.mark.parametrize(
    ("path", "expected"),
    [("step_time_ratio", True), ("cases, a, over_bare", True), ("gpu_busy, 4", True), ("overall", False), ("", False)],
)
def test_a_ratio_is_known_by_its_name(path: str, expected: bool) -> None:
    assert is_ratio(path) == expected
