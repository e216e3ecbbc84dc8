"""What a machine is, and which libraries are on it: for results, which both can change."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

from tinyvit_kd import __version__
from tinyvit_kd.runtime.topology import read_topology

LIBRARIES = ("torch", "timm", "numpy", "pillow")
_CPUINFO = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """Versions of this package, of Python, and of the libraries that results depend on."""
    found = {"tinyvit_kd": __version__, "python": platform.python_version()}
    found |= {name: importlib.metadata.version(name) for name in LIBRARIES}
    return found | ({"cuda": torch.version.cuda} if torch.version.cuda and torch.cuda.is_available() else {})


def machine() -> dict[str, Any]:
    """This process's machine: host, system, processor, cores and threads that may be used, memory in bytes, GPUs."""
    allowed = os.sched_getaffinity(0)
    cores = sum(len(node) for node in read_topology(allowed).nodes.values())
    return {
        "host": platform.node(),
        "system": platform.platform(),
        "cpu": _processor(),
        "cores": cores,
        "threads": len(allowed),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": _gpus(),
    }


def _processor() -> str:
    try:
        lines = _CPUINFO.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _gpus() -> list[dict[str, Any]]:
    if not torch.cuda.is_available():
        return []
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    return [{"name": device.name, "memory": device.total_memory} for device in devices]
