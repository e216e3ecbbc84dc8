"""Made-up machines, as Linux describes them under /sys."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tinyvit_kd.runtime.topology import parse_list


def make_sys(
    root: Path, nodes: Mapping[int, str], threads_apart: int, devices: Mapping[str, int] | None = None
) -> None:
    """Write what is read of a machine.

    Args:
        nodes: the list of threads of each NUMA node.
        threads_apart: the two threads of a core are so many numbers apart; 0: a core has one thread.
        devices: the NUMA node of PCI devices by address.
    """
    for node, threads in nodes.items():
        _write(root / f"devices/system/node/node{node}/cpulist", threads)
        for thread in parse_list(threads):
            first = thread % threads_apart if threads_apart else thread
            siblings = f"{first},{first + threads_apart}" if threads_apart else f"{first}"
            _write(root / f"devices/system/cpu/cpu{thread}/topology/thread_siblings_list", siblings)
    for address, node in (devices or {}).items():
        _write(root / f"bus/pci/devices/{address}/numa_node", str(node))


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
