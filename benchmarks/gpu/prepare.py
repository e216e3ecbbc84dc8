"""What has to travel to a machine that cannot fetch anything: wheels, and a libjpeg-turbo to build against."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gpu.environment import LIBJPEG, PREPARED, WHEELS
from benchmarks.gpu.json_files import read_json, write_json
from benchmarks.gpu.requirements import Needs, needs, of_the_steps, wheels_in
from tinyvit_kd.errors import ConfigError

LIMIT_MIB = 64.0
# What is left out first where all together is too much: no step needs scipy, and torch comes with numpy.
EXPENDABLE = ("scipy", "numpy", "tensorboard")
ROUNDS = 12  # of downloads: packages are required by packages
GLIBC = range(5, 36)  # minor versions of the C library that wheels may have been built for
OLDER = ("manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64")
HEADERS = ("jpeglib.h", "jconfig.h", "jmorecfg.h", "jerror.h")
LICENCES = ("/usr/share/doc/libjpeg62-turbo-dev/copyright", "/usr/share/doc/libjpeg-turbo8-dev/copyright")
NOTE = """libjpeg-turbo, as this system has it: headers and the shared library, to build against where there is none.
It is under the IJG licence, the modified (3-clause) BSD licence and, in part, the zlib licence:
https://github.com/libjpeg-turbo/libjpeg-turbo/blob/main/LICENSE.md
This software is based in part on the work of the Independent JPEG Group.
"""
MIB = 1 << 20
CONTENTS = "contents.json"


@dataclass(frozen=True)
class Carrier:
    """Where things travel to.

    Attributes:
        python: of the machine, as ``3.12``; it is x86-64 Linux.
        limit_mib: what can be carried, in MiB.
        without: names of packages that the machine has.
        find_links: a folder of wheels that stands in for the package index; None: pip's own.
    """

    python: str
    limit_mib: float = LIMIT_MIB
    without: tuple[str, ...] = ()
    find_links: Path | None = None


def prepare(folder: Path, carrier: Carrier) -> str:
    """Fill a folder, or bring it up to date.

    Returns:
        what is in it, for people.

    Raises:
        ConfigError: pip cannot get the packages.
    """
    wheels, dropped = folder / WHEELS, list[str]()
    if (read_json(folder / CONTENTS) or {}).get("python") != carrier.python:
        shutil.rmtree(wheels, ignore_errors=True)  # of another Python, or a call that did not end
    wheels.mkdir(parents=True, exist_ok=True)
    jpeg = _carry_libjpeg(folder / LIBJPEG)
    found = _gather(wheels, carrier, carrier.without)
    for name in EXPENDABLE:
        if _mib(folder) <= carrier.limit_mib:
            break
        dropped += [name] if name in found.wheels else []
        found = _kept(wheels, carrier, (*carrier.without, *dropped))
    too_much = _mib(folder) > carrier.limit_mib
    contents = {
        "python": carrier.python,
        "mib": round(_mib(folder), 1),
        "wheels": sorted(wheel.path.name for wheel in found.wheels.values()),
        "left_out": dropped,
        "missing": sorted(found.missing.values()),
        "libjpeg": jpeg,
    }
    write_json(folder / CONTENTS, contents)
    lines = [
        f"{folder}: {len(found.wheels)} wheels for Python {carrier.python}; libjpeg-turbo: {jpeg}",
        f"{_mib(folder):.1f} MiB of {carrier.limit_mib:g} MiB" + (", TOO MUCH: name more with --without" * too_much),
        f"left out to keep to the limit: {', '.join(dropped)}" if dropped else "nothing was left out for its size",
        f"in no wheel: {', '.join(found.missing.values())}" if found.missing else "all requirements are met",
        f"Put it into the tree or beside it as {PREPARED}, and run: python -m benchmarks.gpu --out FOLDER",
    ]
    return "\n".join(lines)


def _gather(wheels: Path, carrier: Carrier, without: Iterable[str]) -> Needs:
    """Download what is required, then what that requires, until nothing is missing that pip can get."""
    asked: set[str] = set()
    for _ in range(ROUNDS):
        found = _kept(wheels, carrier, without)
        lines = sorted(set(found.missing.values()) - asked)
        if not lines:
            return found
        for name in found.missing:
            _remove(wheels, name)  # of another version
        _download(lines, wheels, carrier)
        asked |= set(lines)
    return _kept(wheels, carrier, without)


def _kept(wheels: Path, carrier: Carrier, without: Iterable[str]) -> Needs:
    """What is needed of the wheels that are there; the others are removed once nothing is missing."""
    there = wheels_in(wheels)
    found = needs(of_the_steps(), there, _nothing_is_there, carrier.python, without)
    if not found.missing:
        for path in set(wheels.glob("*.whl")) - {wheel.path for wheel in found.wheels.values()}:
            path.unlink()
    return found


def _nothing_is_there(name: str) -> None:
    del name


def _remove(wheels: Path, name: str) -> None:
    wheel = wheels_in(wheels).get(name)
    if wheel is not None:
        wheel.path.unlink()


def _download(lines: list[str], wheels: Path, carrier: Carrier) -> None:
    """Have pip fetch these requirements, without what they require."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", carrier.python]
    for system in (*OLDER, *(f"manylinux_2_{minor}_x86_64" for minor in GLIBC)):
        command += ["--platform", system]
    if carrier.find_links is not None:
        command += ["--no-index", "--find-links", str(carrier.find_links)]
    done = subprocess.run([*command, "--dest", str(wheels), *lines], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ConfigError(
            "pip does not get all packages",
            where=f"for Python {carrier.python}",
            found=" ".join((done.stdout + done.stderr).splitlines()[-4:]),
            fix="see to it that pip reaches its index, or name packages that the machine has with --without",
        )


def _mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / MIB


def _carry_libjpeg(folder: Path) -> str:
    """Copy this machine's headers and shared library, without links; returns what was copied, or why nothing was."""
    includes, library = _libjpeg_headers(), _libjpeg_library()
    if includes is None or library is None or platform.machine() != "x86_64":
        return "none for x86-64 here (install libjpeg-dev and a C compiler); the machine has to have its own"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("include", "lib"):
        (folder / name).mkdir(parents=True)
    for header in includes:
        shutil.copyfile(header, folder / "include" / header.name)
    # The linker looks for the first name, the program that it made for the second.
    for name in ("libjpeg.so", library.name):
        shutil.copyfile(library.resolve(), folder / "lib" / name)
    (folder / "NOTICE").write_text(NOTE, encoding="utf-8")
    for licence in filter(Path.is_file, map(Path, LICENCES)):
        shutil.copyfile(licence, folder / "copyright")
    return f"{library.resolve().name}, with headers"


def _libjpeg_headers() -> list[Path] | None:
    """The headers, wherever the compiler finds them."""
    with tempfile.TemporaryDirectory() as aside:
        source = Path(aside) / "a.c"
        source.write_text("#include <stdio.h>\n#include <jpeglib.h>\n#include <jerror.h>\n")
        said = _compiler("-M", str(source))
    found = [Path(word) for word in (said or "").split() if Path(word).name in HEADERS]
    return found if len(found) == len(HEADERS) else None


def _libjpeg_library() -> Path | None:
    """The shared library under the name that programs ask for, beside the one that the linker takes."""
    said = (_compiler("-print-file-name=libjpeg.so") or "").strip()
    if "/" not in said:
        return None
    found = sorted(Path(said).resolve().parent.glob("libjpeg.so.*"), key=lambda path: len(path.name))
    return found[0] if found else None


def _compiler(*arguments: str) -> str | None:
    """What the C compiler answers; None where there is none or it fails."""
    program = shutil.which("cc") or shutil.which((sysconfig.get_config_var("CC") or "gcc").split()[0])
    if program is None:
        return None
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else None
