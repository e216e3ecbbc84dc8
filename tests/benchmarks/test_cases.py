"""What benchmarks of a device share: a result that grows case by case, whatever becomes of the cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.arguments import COMMON, TINY, parse, parser
from benchmarks.cases import LONGEST, Cases, Figures

CPU = torch.device("cpu")


def fastest(done: dict[str, Figures]) -> dict[str, Any]:
    return {"fastest": max((found["rate"] for found in done.values()), default=None)}


def too_much() -> Figures:
    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nand more lines")


@pytest.fixture
def cases(tmp_path: Path) -> Cases:
    return Cases({"batch": 4}, CPU, tmp_path / "new" / "results.json", fastest)


def written(cases: Cases) -> dict[str, Any]:
    assert cases.results is not None
    found: dict[str, Any] = json.loads(cases.results.read_text())
    return found


def test_the_file_is_whole_after_each_case(cases: Cases) -> None:
    assert cases.run("a", lambda: {"rate": 2.0}) == {"rate": 2.0}
    assert written(cases)["cases"] == {"a": {"rate": 2.0}}
    cases.run("b", lambda: {"rate": 3.0})
    found = written(cases)
    assert found["fastest"] == 3.0
    assert list(found) == ["machine", "device", "settings", "fastest", "cases", "failed"]
    assert found["settings"] == {"batch": 4}
    assert cases.results is not None
    assert list(cases.results.parent.iterdir()) == [cases.results]


def test_a_case_that_fails_is_noted_and_passed_over(cases: Cases, capsys: pytest.CaptureFixture[str]) -> None:
    assert cases.run("large", too_much) is None
    assert cases.run("small", lambda: {"rate": 1.0}) is not None
    found = written(cases)
    assert found["failed"] == {"large": "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"}
    assert list(found["cases"]) == ["small"]
    assert "failed: large: OutOfMemoryError" in capsys.readouterr().out


def test_a_part_of_a_case_may_fail(cases: Cases) -> None:
    found = cases.run("case", lambda: {"rate": 1.0, "other": cases.attempt("case: other", too_much)})
    assert found == {"rate": 1.0, "other": None}
    assert list(cases.failed) == ["case: other"]


def test_a_long_error_is_cut(cases: Cases) -> None:
    def fail() -> Figures:
        raise ValueError("x" * 10_000)

    cases.run("long", fail)
    assert len(cases.failed["long"]) == LONGEST


def test_an_interrupt_is_no_failure(cases: Cases) -> None:
    def interrupt() -> Figures:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cases.run("case", interrupt)


def test_the_last_line_is_the_result(cases: Cases, capsys: pytest.CaptureFixture[str]) -> None:
    cases.end()
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == written(cases)
    assert written(cases)["fastest"] is None


def test_tiny_settings_give_way_to_what_is_said() -> None:
    given = parser(None)
    given.add_argument("--batch", type=int)
    defaults: dict[str, dict[str, Any]] = {"cpu": {"batch": 16}, "cuda": {"batch": 256}, "tiny": {"batch": 2}}
    usual = parse(given, ["--device", "cpu"], defaults)
    assert (usual.batch, usual.size, usual.classes) == (16, COMMON["size"], COMMON["classes"])
    tiny = parse(given, ["--device", "cpu", "--tiny", "--size", "64"], defaults)
    assert (tiny.batch, tiny.size, tiny.classes) == (2, 64, TINY["classes"])
