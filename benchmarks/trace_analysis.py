"""What a trace of torch's profiler says: the largest kernels, the longest gaps between them, and what the host does."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

KERNEL, OPERATOR, RANGE = "kernel", "cpu_op", "user_annotation"
ON_DEVICE = (KERNEL, "gpu_memcpy", "gpu_memset")
ON_HOST = (OPERATOR, "cuda_runtime", "cuda_driver", RANGE, "python_function")
LAUNCH = re.compile(r"cu(da)?(Launch(Cooperative)?Kernel|GraphLaunch)")
SYNCHRONISES = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "aten::_local_scalar_dense")
MOST = 5  # kernels and gaps that are named
HOST_NAMES = 3  # of what the host did in a gap
UNRECORDED = "Python, or nothing"  # what no event covers
Told = dict[str, Any]
Times = dict[str, float]  # microseconds by name


class Event(NamedTuple):
    """Something that took time; microseconds."""

    name: str
    kind: str  # "cat" of the trace
    begin: float
    end: float
    thread: tuple[Any, Any] = (0, 0)  # process and thread; on a device, its number and the stream
    size: int = 0  # bytes of a copy

    @property
    def duration(self) -> float:
        """Microseconds."""
        return self.end - self.begin


class Steps(NamedTuple):
    """The events of some steps of a loop.

    Attributes:
        device: kernels, copies and fills that began in the steps or behind them, by time.
        host: what began in the steps, the range itself left out.
        number: how many steps.
        begin, end: of the steps on the host, microseconds.
    """

    device: list[Event]
    host: list[Event]
    number: int
    begin: float
    end: float

    @property
    def kernels(self) -> list[Event]:
        """Without copies and fills."""
        return [event for event in self.device if event.kind == KERNEL]

    @property
    def copies_and_fills(self) -> list[Event]:
        """What else the device did."""
        return [event for event in self.device if event.kind != KERNEL]


def read_events(path: Path) -> list[Event]:
    """The events that have a duration, of a Chrome trace as gzipped JSON."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        told = json.load(file)["traceEvents"]
    return [_event(each) for each in told if each.get("ph") == "X" and "dur" in each]


def _event(told: Told) -> Event:
    begin, duration = float(told["ts"]), float(told["dur"])
    size = told.get("args", {}).get("bytes", 0)
    return Event(told["name"], told.get("cat", ""), begin, begin + duration, (told["pid"], told["tid"]), int(size))


def steps_in(events: Iterable[Event], name: str, count: int) -> Steps:
    """What happened in ``count`` steps.

    Args:
        name: of the range around them (``record_function``).

    Raises:
        ValueError: there is no such range.
    """
    events = sorted(events, key=lambda event: event.begin)
    ranges = [event for event in events if event.kind == RANGE and event.name == name]
    if not ranges:
        raise ValueError(f"the trace has no range {name!r}")
    whole = ranges[0]
    device = [event for event in events if event.kind in ON_DEVICE and event.begin >= whole.begin]
    host = [event for event in events if event.kind in ON_HOST and whole.begin <= event.begin < whole.end]
    return Steps(device, [event for event in host if event != whole], count, whole.begin, whole.end)


def self_times(events: Iterable[Event], begin: float = 0.0, end: float = float("inf")) -> Times:
    """Microseconds by name between two times, without those of events inside on the same thread."""
    spent: Times = defaultdict(float)
    open_events: dict[tuple[Any, Any], list[Event]] = {}
    for event in sorted(events, key=lambda event: (event.begin, -event.end)):
        inside = max(event.begin, begin), min(event.end, end)
        if inside[0] >= inside[1]:
            continue
        around = open_events.setdefault(event.thread, [])
        while around and around[-1].end <= event.begin:
            around.pop()
        length = inside[1] - inside[0]
        if around:
            spent[around[-1].name] -= length
        spent[event.name] += length
        around.append(event)
    return spent


def covered(events: Iterable[Event], begin: float = 0.0, end: float = float("inf")) -> float:
    """Microseconds between two times in which at least one event is under way."""
    total, reached = 0.0, begin
    for event in sorted(events, key=lambda event: event.begin):
        first, last = max(event.begin, reached), min(event.end, end)
        if last > first:
            total += last - first
            reached = last
    return total


def largest(spent: Times, calls: Counter[str], steps: int, most: int = MOST) -> list[Told]:
    """The names that take longest: milliseconds and calls of a step, and the share of all."""
    total = sum(spent.values())
    return [
        {
            "name": name,
            "share": round(time / total, 4),
            "ms_a_step": round(time / 1000 / steps, 4),
            "calls_a_step": round(calls[name] / steps, 2),
        }
        for name, time in _longest(spent)[:most]
    ]


def longest_gaps(steps: Steps, most: int = MOST) -> list[Told]:
    """The longest times in which no kernel runs, with what the host did meanwhile, and what the device copied."""
    gaps: list[tuple[float, Event, Event]] = []
    last: Event | None = None  # that ends last so far
    for kernel in steps.kernels:
        if last is not None and kernel.begin > last.end:
            gaps.append((kernel.begin - last.end, last, kernel))
        if last is None or kernel.end > last.end:
            last = kernel
    gaps.sort(key=lambda gap: -gap[0])
    return [
        {
            "us": round(length, 1),
            "at_ms": round((before.end - steps.begin) / 1000, 3),
            "after": before.name,
            "before": after.name,
            "copying_us": round(covered(steps.copies_and_fills, before.end, after.begin), 1),
            "host": host_between(steps, before.end, after.begin),
        }
        for length, before, after in gaps[:most]
    ]


def host_between(steps: Steps, begin: float, end: float) -> dict[str, float]:
    """What the host did between two times: microseconds of the innermost events, the longest first."""
    overlapping = [event for event in steps.host if event.begin < end and event.end > begin]
    spent = self_times(overlapping, begin, end)
    spent[UNRECORDED] = end - begin - covered(overlapping, begin, end)
    return {name: round(time, 1) for name, time in _longest(spent)[:HOST_NAMES] if time > 0}


def copies(steps: Steps) -> dict[str, Told]:
    """Copies of a step by kind: how many, and MiB."""
    found = [event for event in steps.device if event.kind == "gpu_memcpy"]
    numbers, sizes = Counter[str](), Counter[str]()
    for event in found:
        numbers[event.name] += 1
        sizes[event.name] += event.size
    return {
        name: {"a_step": round(number / steps.number, 2), "mib_a_step": round(sizes[name] / 2**20 / steps.number, 3)}
        for name, number in numbers.most_common()
    }


def analyse(steps: Steps) -> Told:
    """All that a report tells; without a device, its operators alone."""
    operators = [event for event in steps.host if event.kind == OPERATOR]
    found: Told = {
        "ms_a_step_on_the_host": round((steps.end - steps.begin) / 1000 / steps.number, 3),
        "operators_a_step": round(len(operators) / steps.number, 1),
        "largest_operators": largest(self_times(operators), _calls(operators), steps.number),
        "synchronisations_a_step": _a_step(steps, SYNCHRONISES),
    }
    kernels = steps.kernels
    if not kernels:
        return found
    spent: Times = defaultdict(float)
    for kernel in kernels:
        spent[kernel.name] += kernel.duration
    span = kernels[0].begin, max(kernel.end for kernel in kernels)
    launches = sum(1 for event in steps.host if LAUNCH.match(event.name))
    return found | {
        "ms_a_step_on_the_device": round((span[1] - span[0]) / 1000 / steps.number, 3),
        "device_busy": round(covered(kernels) / (span[1] - span[0]), 4),
        "kernels_a_step": round(len(kernels) / steps.number, 1),
        "launches_a_step": round(launches / steps.number, 1),
        "largest_kernels": largest(spent, _calls(kernels), steps.number),
        "longest_gaps": longest_gaps(steps),
        "copies": copies(steps),
    }


def _longest(spent: Times) -> list[tuple[str, float]]:
    return sorted(spent.items(), key=lambda each: -each[1])


def _calls(events: Iterable[Event]) -> Counter[str]:
    return Counter(event.name for event in events)


def _a_step(steps: Steps, names: Sequence[str]) -> dict[str, float]:
    calls = _calls(steps.host)
    return {name: round(calls[name] / steps.number, 2) for name in names if calls[name]}
