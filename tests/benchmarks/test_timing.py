"""What benchmarks share: how work is timed."""

from __future__ import annotations

import time

import pytest
import torch

from benchmarks.timing import interleaved, seconds

CPU = torch.device("cpu")


def test_seconds_are_those_of_the_work() -> None:
    assert seconds(lambda: time.sleep(0.02), CPU) >= 0.02


def test_columns_take_turns_and_the_first_round_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    order = list[str]()
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def work(name: str, durations: list[float]) -> None:
        order.append(name)
        now[0] += durations.pop(0)

    first, second = [100.0, 1.0, 9.0, 2.0], [50.0, 5.0, 5.0, 5.0]
    found = interleaved({"a": lambda: work("a", first), "b": lambda: work("b", second)}, rounds=3, device=CPU)
    assert order == ["a", "b"] * 4
    assert found == {"a": 2.0, "b": 5.0}
