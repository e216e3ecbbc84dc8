"""What the other steps need, made where it is missing: packages from wheels, and the native renderer.

Command:  python -m benchmarks.gpu.environment [--wheels FOLDER] [--site FOLDER] [--results FILE]
Result:   a last line of JSON; exit code 1 if the package's own requirements are not met.

In a full environment nothing is installed and nothing is built. Elsewhere the wheels of a prepared folder go into a
folder of their own, which is on the path of all steps; torch is always the machine's own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.gpu.json_files import last_object, write_json
from benchmarks.gpu.requirements import Wheel, needs, of_the_package, of_the_steps, wheels_in

REPOSITORY = Path(__file__).resolve().parents[2]
PREPARED = "gpu-prepared"  # in the tree or beside it
WHEELS, LIBJPEG = "wheels", "libjpeg"  # within a prepared folder
# In a process of its own: this one has seen neither what it installs nor what it builds.
RENDERER = """
import json
from tinyvit_kd.views import native
from tinyvit_kd.views.selfcheck import check_renderers
line = check_renderers()
print(json.dumps({"native": native.is_on(), "renders": line}))
"""
Found = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> None:
    """Install, build, look, print, exit."""
    options = _parser().parse_args(arguments)
    folder = options.wheels or prepared_folder()
    site = options.site or site_folder()
    found: Found = {"prepared": None if folder is None else str(folder), "python": sys.version.split()[0]}
    parts: tuple[Callable[[], Found], ...] = (partial(packages, folder, site), partial(renderer, folder))
    for part in parts:
        found |= part()
        if options.results is not None:
            write_json(options.results, found)
    print(json.dumps(found))
    sys.exit(1 if found["missing"] or "error" in found else 0)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--wheels", type=Path, help=f"what --prepare made; else {PREPARED} in the tree or beside it")
    made.add_argument("--site", type=Path, help=f"folder for packages (default: {site_folder()})")
    made.add_argument("--results", type=Path, help="a JSON file of the result")
    made.add_argument("--device", help="where the steps run, which changes nothing here")
    made.add_argument("--tiny", action="store_true", help="likewise")
    return made


def prepared_folder() -> Path | None:
    """What ``--prepare`` made, where it is in the tree or beside it."""
    places = (REPOSITORY / PREPARED, REPOSITORY.parent / PREPARED)
    return next((place for place in places if place.is_dir()), None)


def site_folder() -> Path:
    """Where packages go for this Python: one's own cache, outside of the tree."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "tinyvit_kd" / f"gpu-{sys.implementation.cache_tag}"


def packages(folder: Path | None, site: Path) -> Found:
    """Install what is missing or too old, as far as there are wheels.

    Returns:
        installed: the files that were;
        missing, missing_of_tests: requirements that are not met now, of the package and of tests and benchmarks.
    """
    wheels = {} if folder is None else wheels_in(folder / WHEELS)
    wanted, required = needs(of_the_steps(), wheels), needs(of_the_package(), wheels)
    found: Found = {"installed": []}
    if wanted.wheels:
        done = install(list(wanted.wheels.values()), site)
        if done.returncode == 0:
            found |= {"installed": sorted(wheel.path.name for wheel in wanted.wheels.values()), "site": str(site)}
        else:
            found["error"] = _end_of(done)
    of_steps = [line for name, line in wanted.missing.items() if name not in required.missing]
    return found | {"missing": sorted(required.missing.values()), "missing_of_tests": sorted(of_steps)}


def install(wheels: Sequence[Wheel], site: Path) -> subprocess.CompletedProcess[str]:
    """Have pip unpack wheels into a folder, in place of older ones there, without an index; how pip ended."""
    site.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    options = ["--no-deps", "--no-compile", "--no-cache-dir", "--upgrade", "--target", str(site)]
    return _run([*command, *options, *(str(wheel.path) for wheel in wheels)])


def renderer(folder: Path | None) -> Found:
    """Build the native renderer if it is not there, and compare the renderers' bytes with those that define views.

    Returns:
        native: whether the native renderer is in use; renders: a line that says so, or why not;
        built: whether it was built now; building: the end of what the compiler said where it failed.
    """
    found = _look()
    if found.get("native"):
        return {"built": False, **found}
    done = _run([sys.executable, "setup.py", "build_ext", "--inplace", "--force"], build_flags(folder))
    found = _look()
    if found.get("native"):
        return {"built": True, **found}
    header = Path(sysconfig.get_path("include")) / "Python.h"
    absent = [] if header.is_file() else [f"{header} is not there"]
    return {"built": False, **found, "building": "\n".join([*absent, _end_of(done)])}


def _look() -> Found:
    """What renders views, in a process of its own."""
    done = _run([sys.executable, "-c", RENDERER])
    return last_object(done.stdout) or {"native": False, "renders": _end_of(done)}


def build_flags(folder: Path | None) -> dict[str, str]:
    """Where the compiler finds the libjpeg-turbo that was carried along; nothing where none was."""
    if folder is None or not (folder / LIBJPEG).is_dir():
        return {}
    carried = (folder / LIBJPEG).resolve()
    library = carried / "lib"
    return {
        "TINYVIT_KD_CFLAGS": f"'-I{carried / 'include'}'",
        "TINYVIT_KD_LDFLAGS": f"'-L{library}' '-Wl,-rpath,{library}'",
    }


def _run(command: Sequence[str], settings: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """A command in the tree; what it says goes to the log, too."""
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path} | (settings or {})
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout + done.stderr, file=sys.stderr, flush=True)
    return done


def _end_of(done: subprocess.CompletedProcess[str]) -> str:
    return "\n".join((done.stdout + done.stderr).splitlines()[-12:])


if __name__ == "__main__":
    main()
