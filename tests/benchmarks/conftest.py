"""Small arguments for benchmarks, with which they take seconds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

SMALL_NETWORK = ["--classes", "40", "--topk", "5", "--size", "32", "--rounds", "1"]
SMALL_TEACHER = ["--device", "cpu", "--teacher", "resnet10t", *SMALL_NETWORK]

Result = Callable[[], dict[str, Any]]


@pytest.fixture
def result(capsys: pytest.CaptureFixture[str]) -> Result:
    """A function that returns the figures in the last line that a benchmark printed."""

    def read() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
        return found

    return read
