"""The native renderer of views, which is built where a C compiler and libjpeg-turbo are, and left out elsewhere."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup

SOURCES = Path("tinyvit_kd") / "views" / "csrc"
# Views are defined to the last bit: nothing may be contracted or reordered.
FLAGS = [
    "-std=c11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-trapping-math",
    # Some sums overflow in files that are then refused; Python's own flags say this, too, but need not.
    "-fwrapv",
    "-fvisibility=hidden",
    "-Wno-psabi",
]


def libjpeg(kind: str) -> list[str]:
    """What pkg-config says of libjpeg-turbo; nothing where it is not known, and the usual paths will have to do."""
    if shutil.which("pkg-config") is None:
        return []
    found = subprocess.run(["pkg-config", kind, "libjpeg"], capture_output=True, text=True, check=False)
    return found.stdout.split() if found.returncode == 0 else []


def given(name: str) -> list[str]:
    """Flags of the caller's, for a libjpeg-turbo that is in none of the usual places."""
    return shlex.split(os.environ.get(name, ""))


def native() -> Extension:
    """``tinyvit_kd.views._native``."""
    return Extension(
        "tinyvit_kd.views._native",
        sources=sorted(str(path) for path in SOURCES.glob("*.c")),
        depends=sorted(str(path) for path in SOURCES.rglob("*.h")),
        extra_compile_args=FLAGS + libjpeg("--cflags") + given("TINYVIT_KD_CFLAGS"),
        extra_link_args=given("TINYVIT_KD_LDFLAGS") + (libjpeg("--libs") or ["-ljpeg"]),
        optional=True,
    )


if __name__ == "__main__":
    setup(ext_modules=[native()])
