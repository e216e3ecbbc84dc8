"""Which packages the tree needs, and which of the wheels in a folder a Python has to be given."""

from __future__ import annotations

import configparser
import importlib.metadata
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

SETUP = Path(__file__).resolve().parents[2] / "setup.cfg"
# A GPU's machine has its own; another would not fit its driver.
NEVER, NVIDIA = ("torch", "torchvision", "triton"), "nvidia-"
# Of the dev extra, what no step runs.
NO_STEP_NEEDS = ("ruff", "mypy", "types-pyyaml", "types-tqdm", "pytest-xdist")
# Beyond setup.cfg: the reference renderer's bytes are Pillow 13's; benchmarks/online.py compares with timm.task.
STRICTER = ("Pillow>=13", "timm>=1.0.23")
VersionOf = Callable[[str], str | None]  # of a distribution that is installed


@dataclass(frozen=True)
class Wheel:
    """A wheel, and what it requires in turn."""

    path: Path
    name: str
    version: str
    requires: tuple[str, ...]


@dataclass
class Needs:
    """What has to be installed, and what is needed and in no wheel: a requirement, by name."""

    wheels: dict[str, Wheel] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def of_the_package() -> list[str]:
    """What setup.cfg says that the package requires."""
    return _setup()["options"]["install_requires"].strip().splitlines()


def of_the_steps() -> list[str]:
    """What the package, its tests and the benchmarks require."""
    tests = _setup()["options.extras_require"]["dev"].strip().splitlines()
    lines = [*of_the_package(), *tests, *STRICTER]
    return [line for line in lines if canonical(parsed(line).name) not in NO_STEP_NEEDS]


def _setup() -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(SETUP, encoding="utf-8")
    return setup


def parsed(line: str) -> Requirement:
    """A requirement. ``packaging`` comes with pytest and with much else, and in pip at the least."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        from pip._vendor.packaging.requirements import Requirement  # type: ignore[assignment]
    return Requirement(line)


def canonical(name: str) -> str:
    """A name as packages are compared by: PEP 503."""
    return name.lower().replace("_", "-").replace(".", "-")


def installed(name: str) -> str | None:
    """The version of a distribution in this Python; None where there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def wheels_in(folder: Path) -> dict[str, Wheel]:
    """The wheels of a folder, by canonical name; of several versions the last file. Damaged ones are none."""
    found = dict[str, Wheel]()
    for path in sorted(folder.glob("*.whl")):
        with suppress(zipfile.BadZipFile, ValueError):
            wheel = _opened(path)
            found[wheel.name] = wheel
    return found


def _opened(path: Path) -> Wheel:
    with zipfile.ZipFile(path) as file:
        (name,) = (each for each in file.namelist() if each.count("/") == 1 and each.endswith(".dist-info/METADATA"))
        said = HeaderParser().parsestr(file.read(name).decode("utf-8"))
    return Wheel(path, canonical(said["Name"]), said["Version"], tuple(said.get_all("Requires-Dist") or ()))


def needs(
    requirements: Sequence[str],
    wheels: Mapping[str, Wheel],
    version_of: VersionOf = installed,
    python: str | None = None,
    without: Iterable[str] = (),
) -> Needs:
    """Follow requirements from package to package.

    Args:
        requirements: to begin with.
        wheels: what could be installed, by name.
        version_of: what is installed already.
        python: for which version, as ``3.12``, conditions are judged; None: the one that runs.
        without: names of packages that are left alone, as torch is.
    """
    left_alone = {*NEVER, *map(canonical, without)}
    found, left = Needs(), [(line, "") for line in requirements]
    followed: set[tuple[str, str]] = set()
    while left:
        followed.add(left[-1])
        line, extra = left.pop()
        requirement = parsed(line)
        name = canonical(requirement.name)
        if name in left_alone or name.startswith(NVIDIA) or not _applies(requirement, extra, python):
            continue
        version, wheel = version_of(name), wheels.get(name)
        if version is not None and name not in found.wheels and requirement.specifier.contains(version, True):
            continue
        if wheel is None or not requirement.specifier.contains(wheel.version, True):
            found.missing[name] = _joined(found.missing.get(name), requirement)
            continue
        found.wheels[name] = wheel
        required = {(each, extra) for each in wheel.requires for extra in ("", *requirement.extras)}
        left += sorted(required - followed)
    return found


def _applies(requirement: Requirement, extra: str, python: str | None) -> bool:
    if requirement.marker is None:
        return not extra  # it was followed without the extra
    target = {"extra": extra}
    if python is not None:
        target |= {"python_version": python, "python_full_version": f"{python}.0"}
    return requirement.marker.evaluate(target)


def _joined(known: str | None, requirement: Requirement) -> str:
    """A requirement that asks for what both ask for."""
    plain = f"{requirement.name}{requirement.specifier}"
    if known is None or known == plain:
        return plain
    return f"{requirement.name}{parsed(known).specifier & requirement.specifier}"
