"""Results for people, and for machines."""

from __future__ import annotations

import json
import math

import pytest

from tinyvit_kd.commands.printing import print_result


def test_people_read_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_result("a table", {"a": 1}, as_json=False)
    assert capsys.readouterr().out == "a table\n"


def test_machines_read_one_line_of_json_without_numbers_that_json_lacks(capsys: pytest.CaptureFixture[str]) -> None:
    print_result("a table", {"a": [math.nan, 1.5], "b": {"c": math.inf}}, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {"a": [None, 1.5], "b": {"c": None}}
