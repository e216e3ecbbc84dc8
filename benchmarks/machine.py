"""What a result was measured on; as a command, a line of JSON."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
from contextlib import suppress
from pathlib import Path

import torch

LIBRARIES = ("torch", "timm", "numpy", "zarr", "pillow")


def describe() -> dict[str, str | int]:
    """Date, processor, cores, the GPU where there is one, and versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        **_gpu(),
        "python": platform.python_version(),
        **_versions(),
    }


def _versions() -> dict[str, str]:
    """Of those libraries that are there; zarr, for one, is needed by tests alone."""
    found = {}
    for name in LIBRARIES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _gpu() -> dict[str, str | int]:
    if not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(), "gpus": torch.cuda.device_count(), "cuda": torch.version.cuda or ""}


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


if __name__ == "__main__":
    print(json.dumps(describe()))
