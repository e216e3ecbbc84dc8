"""The trace of the loop: what is found in made-up events, and that a real trace is read."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from benchmarks import trace
from benchmarks.trace import report, trace_path
from benchmarks.trace_analysis import (
    KERNEL,
    OPERATOR,
    RANGE,
    UNRECORDED,
    Event,
    Steps,
    analyse,
    covered,
    longest_gaps,
    read_events,
    self_times,
    steps_in,
)
from tests.benchmarks.conftest import Result

STREAM, MAIN, BACKWARD = (0, 7), (1, 1), (1, 2)
RUNTIME, COPY = "cuda_runtime", "gpu_memcpy"
HTOD = "Memcpy HtoD (Pinned -> Device)"


def kernel(name: str, begin: float, end: float, stream: int = 7) -> Event:
    return Event(name, KERNEL, begin, end, (0, stream))


def host(name: str, begin: float, end: float, kind: str = OPERATOR, thread: tuple[int, int] = MAIN) -> Event:
    return Event(name, kind, begin, end, thread)


# Two steps between 1000 and 3000 µs, in which two gaps are planted: of 400 and of 100 µs.
EVENTS = [
    kernel("early", 0, 900),
    host("early", 0, 10, RUNTIME),
    host("steps", 1000, 3000, RANGE),
    host("aten::mm", 1000, 1100),
    host("cudaLaunchKernel", 1040, 1060, RUNTIME),
    kernel("gemm", 1100, 1500),
    kernel("gemm", 1500, 1700),
    kernel("other stream", 1600, 1800, stream=8),
    host("aten::item", 1500, 2150),
    host("aten::_local_scalar_dense", 1550, 2140),
    host("cudaStreamSynchronize", 1560, 2100, RUNTIME),
    host("cuLaunchKernelEx", 2150, 2180, "cuda_driver"),
    kernel("norm", 2200, 2300),
    Event(HTOD, COPY, 2300, 2400, STREAM, 2**20),
    host("cudaGraphLaunch", 2290, 2295, RUNTIME, BACKWARD),
    kernel("norm", 2400, 2700),
    kernel("late", 2700, 3100),
    host("cudaDeviceSynchronize", 3000, 3200, RUNTIME),
]


@pytest.fixture
def steps() -> Steps:
    return steps_in(EVENTS, "steps", 2)


def test_steps_are_what_their_range_encloses(steps: Steps) -> None:
    assert (steps.begin, steps.end, steps.number) == (1000, 3000, 2)
    assert [event.name for event in steps.kernels] == ["gemm", "gemm", "other stream", "norm", "norm", "late"]
    assert {"early", "steps", "cudaDeviceSynchronize"}.isdisjoint(event.name for event in steps.host)
    with pytest.raises(ValueError, match="no range 'others'"):
        steps_in(EVENTS, "others", 2)


def test_planted_gaps_are_found_with_what_the_host_did(steps: Steps) -> None:
    first, second = longest_gaps(steps)
    assert (first["us"], first["at_ms"], first["after"], first["before"]) == (400, 0.8, "other stream", "norm")
    assert first["host"] == {"cudaStreamSynchronize": 300, "aten::_local_scalar_dense": 40, "cuLaunchKernelEx": 30}
    assert (second["us"], second["after"], second["before"]) == (100, "norm", "norm")
    assert second["host"] == {UNRECORDED: 100}
    assert (first["copying_us"], second["copying_us"]) == (0, 100)
    assert [gap["us"] for gap in longest_gaps(steps, most=1)] == [400]


def test_what_a_step_has_is_counted(steps: Steps) -> None:
    found = analyse(steps)
    assert (found["kernels_a_step"], found["launches_a_step"], found["operators_a_step"]) == (3, 1.5, 1.5)
    assert found["synchronisations_a_step"] == {"cudaStreamSynchronize": 0.5, "aten::_local_scalar_dense": 0.5}
    assert found["copies"] == {HTOD: {"a_step": 0.5, "mib_a_step": 0.5}}
    assert found["ms_a_step_on_the_device"] == 1.0  # from 1100 to 3100
    assert found["device_busy"] == 0.75
    assert found["ms_a_step_on_the_host"] == 1.0


def test_the_largest_kernels_come_first_with_their_share(steps: Steps) -> None:
    found = {each["name"]: each for each in analyse(steps)["largest_kernels"]}
    assert next(iter(found)) == "gemm"
    assert found["gemm"] == {"name": "gemm", "share": 0.375, "ms_a_step": 0.3, "calls_a_step": 1.0}
    assert sum(each["share"] for each in found.values()) == pytest.approx(1)


def test_a_report_names_kernels_gaps_and_counts(steps: Steps) -> None:
    text = "\n".join(report("student", analyse(steps)))
    assert "kernels keep busy for 75.0% of it" in text
    assert "3 kernels, 2 launches" in text
    assert "37.5%  0.300 ms in 1 calls  gemm" in text
    assert "400 µs at 0.8 ms, between other stream and norm; the host: cudaStreamSynchronize 300 µs" in text


def test_time_counts_for_the_innermost_event_of_each_thread() -> None:
    events = [
        host("outer", 0, 100),
        host("inner", 10, 30),
        host("inner", 30, 40),
        host("innermost", 32, 36),
        host("outer", 50, 80, thread=BACKWARD),
    ]
    assert self_times(events) == {"outer": 100 - 30 + 30, "inner": 26, "innermost": 4}
    assert self_times(events, 20, 60) == {"outer": 40 - 20 + 10, "inner": 16, "innermost": 4}


def test_time_that_is_covered_twice_counts_once() -> None:
    events = [kernel("a", 0, 10), kernel("b", 5, 12), kernel("c", 6, 8), kernel("d", 20, 30)]
    assert covered(events) == 22
    assert covered(events, 4, 25) == 13


def test_events_are_read_from_a_trace(tmp_path: Path) -> None:
    told = [
        {"ph": "X", "cat": COPY, "name": HTOD, "ts": 5, "dur": 2.5, "pid": 0, "tid": 7, "args": {"bytes": 64}},
        {"ph": "s", "cat": "ac2g", "name": "flow", "ts": 5, "pid": 0, "tid": 7},
        {"ph": "X", "cat": OPERATOR, "name": "aten::mm", "ts": 1, "dur": 1, "pid": 1, "tid": 1},
    ]
    with gzip.open(tmp_path / "trace.json.gz", "wt") as file:
        json.dump({"traceEvents": told}, file)
    assert read_events(tmp_path / "trace.json.gz") == [
        Event(HTOD, COPY, 5, 7.5, STREAM, 64),
        Event("aten::mm", OPERATOR, 1, 2, MAIN),
    ]


def test_the_loop_is_traced(result: Result, tmp_path: Path) -> None:
    trace.main(["--device", "cpu", "--tiny", "--results", str(tmp_path / "found.json")])
    found = result()["cases"]["resnet10t"]
    assert (tmp_path / found["trace"]).is_file()
    assert "aten::convolution_backward" in {each["name"] for each in found["largest_operators"]}
    assert "largest_kernels" not in found
    assert found["operators_a_step"] > 100


def test_a_trace_goes_beside_the_results(tmp_path: Path) -> None:
    beside = trace_path(Path("there/found.json"), "tiny_vit_5m_224", tmp_path)
    assert beside == Path("there/found-tiny_vit_5m_224.trace.json.gz")
    assert trace_path(None, "a", tmp_path).parent == tmp_path
