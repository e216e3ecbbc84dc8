"""Wheels that hold next to nothing, for tests that must not fetch any."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path


def write_wheel(folder: Path, name: str, version: str, requires: Sequence[str] = (), size: int = 0) -> Path:
    """A wheel with one module that says its version, and ``size`` bytes of ballast that cannot be compressed away."""
    folder.mkdir(parents=True, exist_ok=True)
    plain = re.sub(r"[-.]+", "_", name)
    info = f"{plain}-{version}.dist-info"
    head = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {line}" for line in requires)]
    files = {
        f"{plain}_made_up.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": "\n".join(["Metadata-Version: 2.1", *head, ""]),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{plain}_ballast.txt": "0" * size,
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    path = folder / f"{plain}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        for member, text in {**files, f"{info}/RECORD": record}.items():
            file.writestr(member, text)
    return path
