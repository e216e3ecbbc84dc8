"""Which cores a machine has, in which NUMA nodes, and near which of them a PCI device is; from Linux's /sys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SYS = Path("/sys")


@dataclass(frozen=True)
class Topology:
    """The cores that may be used. A number is that of a hardware thread, which Linux calls a CPU.

    Attributes:
        nodes: by number of the NUMA node, its physical cores; of each of those its threads, in ascending order.
    """

    nodes: dict[int, tuple[tuple[int, ...], ...]]

    @property
    def threads(self) -> frozenset[int]:
        """All hardware threads."""
        return frozenset(thread for cores in self.nodes.values() for core in cores for thread in core)


def read_topology(allowed: Iterable[int], sys: Path = SYS) -> Topology:
    """What is known of some hardware threads; what is not known is taken for a core of its own, in node 0.

    Args:
        allowed: the threads that this process may use.
        sys: where the system describes itself.
    """
    left = set(allowed)
    nodes: dict[int, tuple[tuple[int, ...], ...]] = {}
    for folder in sorted((sys / "devices/system/node").glob("node[0-9]*"), key=lambda path: int(path.name[4:])):
        inside = left & parse_list(_read(folder / "cpulist"))
        if inside:
            nodes[int(folder.name[4:])] = _cores(inside, sys)
            left -= inside
    if left:
        nodes[0] = nodes.get(0, ()) + _cores(left, sys)
    return Topology(nodes)


def pci_node(address: str, sys: Path = SYS) -> int | None:
    """The NUMA node of a PCI device, whose address is written as 0000:3b:00.0; None if it is not known."""
    text = _read(sys / "bus/pci/devices" / address / "numa_node").strip()
    return int(text) if text.isdecimal() else None  # -1: the firmware does not say


def parse_list(text: str) -> set[int]:
    """The numbers in a list as Linux writes them: ``0-3,8``."""
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first.strip().isdecimal():
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def as_list(numbers: Iterable[int]) -> str:
    """Numbers as Linux writes them: ``0-3,8``."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in ranges)


def _cores(threads: set[int], sys: Path) -> tuple[tuple[int, ...], ...]:
    """Threads by physical core, in the order of the cores' first threads."""
    cores: dict[int, list[int]] = {}
    for thread in sorted(threads):
        siblings = parse_list(_read(sys / f"devices/system/cpu/cpu{thread}/topology/thread_siblings_list"))
        cores.setdefault(min(siblings | {thread}), []).append(thread)
    return tuple(tuple(core) for core in cores.values())


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
