"""Steps that are modules of a few lines, and the whole command over them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.series import Series
from benchmarks.gpu.steps import Step

Call = Callable[..., int]
MACHINE = {"gpu": "made up", "torch": "2.11.0"}
# What each of these modules begins with: the results file and the device that it was given.
PREAMBLE = """
import json, subprocess, sys, time
from pathlib import Path
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
file = Path(given["--results"])
"""


def look(series: Series, limit: float) -> dict[str, Any]:
    del series, limit
    return dict(MACHINE)


class Steps:
    """Steps that a test makes up.

    Args:
        folder: for their modules, which is on the path of processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.table: list[Step] = []

    def add(self, name: str, code: str, limit: int = 60, least: int = 1, takes: tuple[str, ...] = ()) -> None:
        """A step of a name that does this, with ``given`` (options) and ``file`` (of results) at hand."""
        (self.folder / f"made_up_{name}.py").write_text(PREAMBLE + code)
        self.table.append(Step(name, f"made_up_{name}", f"is {name} right?", limit, least, takes))


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    folder = tmp_path / "modules"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return Steps(folder)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def call(steps: Steps, out: Path) -> Call:
    """A function that runs the whole command over the steps; returns its exit code."""

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as caught:
            main(["--out", str(out), *arguments], steps.table, look)
        assert isinstance(caught.value.code, int)
        return caught.value.code

    return run


def states(out: Path) -> dict[str, str]:
    """The state of each step, by name."""
    return {name: note["state"] for name, note in summary(out).items()}


def summary(out: Path) -> dict[str, Any]:
    """What ``summary.json`` says of the steps."""
    found: dict[str, Any] = json.loads((out / "summary.json").read_text())["steps"]
    return found
