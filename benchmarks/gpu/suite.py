"""Do the tests pass that are skipped where there is no GPU, and do both renderers make the bytes that define views?

Command:  python -m benchmarks.gpu.suite [--device cuda] [--results FILE]
Result:   a table, and a last line of JSON; exit code 1 if a test failed, was left out on a GPU, or views differ.

Of the test files only those are collected that name a GPU, so that a missing library of another test stops nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.json_files import write_json

if TYPE_CHECKING:
    import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MARKER, CONSTANT = "gpu", "NEEDS_GPU"  # of pytest, and what test files write for it
PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


class Recorder:
    """A plugin of pytest that keeps every test's outcome as soon as there is one.

    Args:
        result: what is known already; it gets ``tests``, outcomes by name, and ``failures``, texts by name.
        path: a JSON file of it; None: no file.
    """

    def __init__(self, result: dict[str, Any], path: Path | None) -> None:
        self.result, self.path = result | {"tests": {}, "failures": {}}, path

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test has been set up, run or torn down."""
        if report.when == "call" or report.outcome != PASSED:
            self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file was read."""
        if report.outcome == FAILED:
            self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        self.result["tests"][report.nodeid] = report.outcome
        if report.outcome == FAILED:
            self.result["failures"][report.nodeid] = report.longreprtext[-2000:]
        counts = Counter(self.result["tests"].values())
        self.keep({outcome: counts[outcome] for outcome in (PASSED, FAILED, SKIPPED)})

    def keep(self, more: dict[str, Any]) -> None:
        """Add to the result, and write it."""
        self.result |= more
        if self.path is not None:
            write_json(self.path, self.result)


def main(arguments: Sequence[str] | None = None) -> None:
    """Check the renderers, run the tests, print, exit."""
    options = _parser().parse_args(arguments)
    recorder = Recorder(renderers(), options.results)
    code = run_tests(recorder, files_that_need_a_gpu())
    recorder.keep({"exit_code": code})
    result = recorder.result
    for name, outcome in result["tests"].items():
        print(f"{outcome:8} {name}")
    print(json.dumps(result))
    untried = options.device == "cuda" and (result.get(SKIPPED) or not result.get(PASSED))
    sys.exit(1 if code != 0 or untried or not result["views_equal"] else 0)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--device", choices=("cpu", "cuda"), default="cuda", help="cuda: a test that is skipped counts")
    made.add_argument("--results", type=Path, help="a JSON file of the result, renewed with every test")
    made.add_argument("--tiny", action="store_true", help="changes nothing here")
    return made


def renderers() -> dict[str, Any]:
    """Which fixed views each renderer makes otherwise than they are defined, and whether one makes them all right."""
    from tinyvit_kd.views import native
    from tinyvit_kd.views.selfcheck import check_native, reference_differences

    said, differing = check_native(), reference_differences()
    return {
        "renders": said,
        "native": native.is_on(),
        "reference_differs_in": differing,
        "views_equal": native.is_on() or not differing,
    }


def files_that_need_a_gpu() -> list[Path]:
    """The test files that have the mark."""
    files = sorted((REPOSITORY / "tests").rglob("test_*.py"))
    return [path for path in files if CONSTANT in path.read_text(encoding="utf-8")]


def run_tests(recorder: Recorder, files: Sequence[Path]) -> int:
    """Run the tests of these files that need a GPU; pytest's exit code, 0 where none of them failed."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # whatever else is installed was made for another pytest
    import pytest

    options = ["-m", MARKER, "-p", "no:cacheprovider", "--continue-on-collection-errors", "--rootdir", str(REPOSITORY)]
    return int(pytest.main([*options, *map(str, files)], plugins=[recorder]))


if __name__ == "__main__":
    main()
