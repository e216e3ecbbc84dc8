"""A run folder as it is seen from outside: what it was asked, what it measured, what came of it.

Nothing here is written, and nothing needs the run to be finished, whole, or on this machine: of one at a URL, its
small files are fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyvit_kd.config.load import read_yaml
from tinyvit_kd.errors import ConfigError, TinyVitKdError, reason_of
from tinyvit_kd.runs.run_files import ATTEMPTS, LOG, RECIPE, RESULTS, SUMMARY
from tinyvit_kd.runtime.files import parse_json, read_small_json
from tinyvit_kd.runtime.loggers.own_files import METRICS
from tinyvit_kd.runtime.progress_file import PROGRESS
from tinyvit_kd.storage.copies import copied, local_path, parts_of
from tinyvit_kd.storage.open import open_storage

SMALL_FILES = (RECIPE, SUMMARY, RESULTS, ATTEMPTS, LOG, METRICS, PROGRESS)  # what is read of a run
Line = dict[str, Any]  # of metrics.jsonl: kind, step, time, and figures by name
_OBJECTS = ("recipe", "identity", "student", "versions", "machine")  # entries of results.json that are no plain values
_TABLES = ("data",)  # objects by name
_LISTS = ("stores", "teacher")  # of objects


@dataclass(frozen=True)
class RunFolder:
    """What a run folder holds.

    Attributes:
        path: of the folder or, of a run at a URL, of one with copies of its small files.
        recipe: as the run wrote it, as plain data; None if there is none that can be read.
        lines: of ``metrics.jsonl``, one per kind and step, by step; what a run repeats after a kill replaces what was
            there.
        damaged_lines: lines that cannot be read; the last one may be in the middle of being written.
        summary: figures of the finished run; None if it has not finished.
        results: of the finished run, with all that they depend on (``results.json``); None if it has not finished, or
            did before such a file was written.
    """

    path: Path
    recipe: dict[str, Any] | None
    lines: tuple[Line, ...]
    damaged_lines: int
    summary: dict[str, Any] | None
    results: dict[str, Any] | None = None
    url: str | None = None  # of a run that is at one

    @property
    def name(self) -> str:
        """The last part of the folder's path or URL."""
        return self.path.resolve().name if self.url is None else parts_of(self.url)[1] or self.url

    @property
    def where(self) -> str:
        """Its path or URL."""
        return str(self.path) if self.url is None else self.url

    def of_kind(self, kind: str) -> list[Line]:
        """The lines of one kind: ``train`` or ``eval``."""
        return [line for line in self.lines if line["kind"] == kind]


def is_run_folder(location: str | Path) -> bool:
    """Whether a folder, or what is at a URL, is a run: one that has begun has its recipe there, an old one its metrics.

    Raises:
        OSError: the storage of a URL refuses.
    """
    path = local_path(str(location))
    if path is not None:
        return (path / RECIPE).is_file() or (path / METRICS).is_file()
    storage = open_storage(str(location))
    return any(storage.info(name) is not None for name in (RECIPE, METRICS))


def files_of_run(location: str | Path) -> Path:
    """The folder of a run or, of one at a URL, a folder with its small files as they are now.

    Raises:
        OSError: the storage of a URL refuses.
    """
    path = local_path(str(location))
    return copied(str(location), SMALL_FILES) if path is None else path


def read_run(location: str | Path) -> RunFolder:
    """Read a run folder, at a path or a URL.

    Raises:
        ConfigError: there is no such folder, or it is none of a run.
        OSError: the storage of a URL refuses.
    """
    path = files_of_run(location)
    if not is_run_folder(path):
        raise ConfigError(
            "this is no run folder",
            where=str(location),
            found="no such folder" if not path.is_dir() else f"neither {RECIPE} nor {METRICS} in it",
            expected="the folder that a recipe of pretrain or finetune calls output",
        )
    lines, damaged = _read_lines(path / METRICS)
    summary = _read_summary(path / SUMMARY)
    results = None if summary is None else read_results(path / RESULTS)
    url = None if local_path(str(location)) is not None else str(location)
    return RunFolder(path, _read_recipe(path / RECIPE), lines, damaged, summary, results, url)


def settings_of(recipe: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of each field of a recipe; lists are values. The folder of the run is none of its fields."""
    for name, value in recipe.items():
        if isinstance(value, Mapping) and value:
            yield from settings_of(value, f"{above}{name}.")
        elif above or name != "output":
            yield f"{above}{name}", value


def read_results(path: Path) -> dict[str, Any] | None:
    """The results of a finished run or dump, as plain data; None where there are none that can be read.

    Entries that are not of their kind, as in a file that somebody has edited, are left out.
    """
    results = read_small_json(path)
    if not isinstance(results.get("figures"), dict):
        return None
    kept = {name: _of_its_kind(name, value) for name, value in results.items()}
    return {name: value for name, value in kept.items() if value is not None}


def _of_its_kind(name: str, value: Any) -> Any:
    """An entry of results, without what it cannot hold; None if nothing is left of it."""
    if name in _OBJECTS:
        return value if isinstance(value, dict) else None
    if name in _TABLES:
        return {use: each for use, each in value.items() if isinstance(each, dict)} if isinstance(value, dict) else None
    if name in _LISTS:
        return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else None
    return value


def _read_recipe(path: Path) -> dict[str, Any] | None:
    try:
        return read_yaml(path)
    except TinyVitKdError:
        return None


def _read_summary(path: Path) -> dict[str, Any] | None:
    results = read_small_json(path).get("results")
    return results if isinstance(results, dict) else None


def _read_lines(path: Path) -> tuple[tuple[Line, ...], int]:
    """The lines, the last one of each kind and step alone, and how many cannot be read."""
    try:
        texts = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return (), 0
    except OSError as error:
        raise ConfigError("cannot read the metrics of a run", where=str(path), found=reason_of(error)) from None
    by_step: dict[tuple[str, int], Line] = {}
    damaged = 0
    for line in map(_parse, texts):
        if line is None:
            damaged += 1
        else:
            by_step[line["kind"], line["step"]] = line
    return tuple(sorted(by_step.values(), key=lambda line: line["step"])), damaged


def _parse(text: str) -> Line | None:
    try:
        line = parse_json(text)
    except (ValueError, RecursionError):
        return None
    known = isinstance(line, dict) and isinstance(line.get("kind"), str) and isinstance(line.get("step"), int)
    return line if known else None
